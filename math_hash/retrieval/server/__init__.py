"""The search page and its JSON interface."""
