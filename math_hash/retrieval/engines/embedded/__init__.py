"""The embedded engine: one folder."""
