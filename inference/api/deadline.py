"""`X-Deadline-Ms`: how long the caller can use an answer. What is done about it is inference.admission's."""

from __future__ import annotations

import re
import time

from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange

_HEADER = b"x-deadline-ms"
_MILLISECONDS = re.compile(r"[1-9][0-9]{0,6}")
_LONGEST_MS = 3_600_000


def of(exchange: Exchange) -> float | None:
    """The moment of `time.monotonic` by which the answer must be whole; None when the caller did not say."""
    if not exchange.has(_HEADER):
        return None
    text = exchange.header(_HEADER) or ""
    if not _MILLISECONDS.fullmatch(text) or int(text) > _LONGEST_MS:
        raise BadRequestError("invalid_deadline", f"X-Deadline-Ms is one whole number from 1 to {_LONGEST_MS}")
    return time.monotonic() + int(text) / 1000
