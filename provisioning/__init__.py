"""The host: before, under and without Django."""
