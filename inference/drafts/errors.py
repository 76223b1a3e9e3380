"""Refusals about answers that were given earlier."""

from __future__ import annotations


class DraftError(Exception):
    """Base of the refusals here. Anything else raised in this app is a bug."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


class RequestNotFoundError(DraftError):
    """No request by that id on record, or not this client's: the answer is the same."""

    def __init__(self) -> None:
        super().__init__("request_not_found", "this client made no such request")


class NoDraftError(DraftError):
    """The request is on record and came to no finished answer: there is nothing to decide about."""

    def __init__(self) -> None:
        super().__init__("no_draft", "that request has no finished answer")


class AlreadyDecidedError(DraftError):
    """A decision is given once; the first one stands."""

    def __init__(self) -> None:
        super().__init__("already_decided", "the decision on that draft is on record already")
