"""Trained models: what turns images and texts into codes, and its forms on the disk."""
