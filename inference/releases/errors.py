"""The refusals of this app. A code is stable and goes to the page, the command and the audit row alike.

Anything else raised here is a bug of ours, not somebody's input.
"""

from __future__ import annotations


class ReleaseError(Exception):
    """Base of every refusal in this app."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ImportRefusedError(ReleaseError):
    """The medium, the bundle or the moment does not allow this import."""


class FloorUnavailableError(ReleaseError):
    """The record of the newest versions ever seen is missing or unreadable, so nothing may be called new enough."""

    def __init__(self, message: str) -> None:
        super().__init__("floor_unavailable", message)


class NotFoundError(ReleaseError):
    """No release or import by that name on this box."""


class ActivationRefusedError(ReleaseError):
    """The release may not start serving now; what serves keeps serving."""


class RollbackRefusedError(ReleaseError):
    """There is no earlier approved release to go back to, or not to this one."""


class ImportLostError(Exception):
    """The import this worker was running is not its own any more: another has it, or it was ended. Stop touching it."""


class TokenizerUnreadableError(ReleaseError):
    """The tokenizer of an installed release cannot be read, so nobody knows which texts it reads as more than text."""
