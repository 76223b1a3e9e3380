"""The one way a launch is refused: a stable code and a sentence for the console."""

from __future__ import annotations


class LaunchRefusedError(Exception):
    """Nothing was started. `code` never changes between versions."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
