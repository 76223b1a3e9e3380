"""The one way a bundle is refused: a stable code, a sentence for people, and nothing left behind.

Anything else raised from this package is a bug of ours, not a bad bundle.
"""

from __future__ import annotations


class BundleError(Exception):
    """The bundle is refused. `code` never changes between versions; the message names the first bad file only."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
