"""Refusals about access reviews, each with its stable code."""

from __future__ import annotations


class ReviewError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""

    code = "review_refused"


class ReviewOpenError(ReviewError):
    """One review at a time: two would decide about the same people."""

    code = "review_already_open"


class UnknownReviewError(ReviewError):
    """There is no such review, or nobody of that name to decide about."""

    code = "review_unknown"


class SignedError(ReviewError):
    """The review is signed, and stays as it was signed."""

    code = "review_signed"


class OwnAccessError(ReviewError):
    """Nobody decides about their own access."""

    code = "review_own_access"


class UndecidedError(ReviewError):
    """Somebody's access is not decided, or has changed since it was."""

    code = "review_undecided"
