"""Trained models, which turn images and texts into codes, and their file formats."""
