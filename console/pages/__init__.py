"""One file per noun; each function is a page or an act, with its permission on the line above it."""
