"""From downloads, or a collection of one's own, to dataset folders."""
