"""Refusals at the gate: not this client's fault, and worth asking again."""

from __future__ import annotations


class AdmissionError(Exception):
    """Base of the refusals here. `retry_after_s` is when asking again makes sense."""

    def __init__(self, code: str, message: str, *, retry_after_s: int) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class QueueFullError(AdmissionError):
    """The lane, or this client's share of it, is full."""


class PressureError(AdmissionError):
    """The cards cannot bear work of this lane now."""


class DeadlineExceededError(AdmissionError):
    """The caller's deadline has passed, or would before the first token."""


class StaleError(AdmissionError):
    """What this process knows of rights and of the served release is too old to decide by. Fail closed."""


class NoModelError(AdmissionError):
    """No approved release is being served."""
