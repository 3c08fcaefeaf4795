"""From downloads and collections of one's own to dataset folders."""
