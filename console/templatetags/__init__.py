"""Template tags: how values are shown."""
