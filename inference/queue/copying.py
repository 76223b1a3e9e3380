"""The bytes of job rows as PostgreSQL takes them by COPY, for batches: an INSERT through the ORM costs fifty times as much.

Binary form (PostgreSQL's documentation, "COPY", section "Binary Format"). A column that is added to the table without a
default of the database's own has to be added here; a test compares the two.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import UTC, datetime

from inference.queue.models import Batch

_SHORT = struct.Struct(">h")
_LENGTH = struct.Struct(">i")
_INT = struct.Struct(">ii")
_BIG = struct.Struct(">iq")
_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TRAILER = _SHORT.pack(-1)
_NULL = _LENGTH.pack(-1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

# First what differs from line to line, then what many lines share.
COLUMNS = (
    "ref", "line", "custom_id", "payload", "result",
    "batch_id", "client", "key_id", "task", "purpose", "state", "code", "attempt", "failures", "intent_open",
    "cancel_requested", "worker", "not_before", "rung_at", "body_hmac", "created", "finished",
)  # fmt: skip
_HEAD = _SHORT.pack(len(COLUMNS))

COPY_IN = f"COPY queue_job ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"


def stream(rows: Iterable[bytes]) -> bytes:
    """A whole COPY of rows made by `JobRows`."""
    return b"".join((_HEADER, *rows, _TRAILER))


class JobRows:
    """The rows of one batch. What lines share is encoded once."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._tails: dict[tuple[str, str, str, str], bytes] = {}

    def waiting(self, ref: str, line: int, *, task: str, purpose: str, custom_id: bytes, payload: bytes) -> bytes:
        tail = self._tail(task, purpose, "queued", "")
        return b"".join(
            (_HEAD, _bytes(ref.encode()), _INT.pack(4, line), _bytes(custom_id), _bytes(payload), _NULL, tail)
        )

    def failed(self, ref: str, line: int, *, code: str, custom_id: bytes, result: bytes) -> bytes:
        tail = self._tail("", "", "failed", code)
        return b"".join(
            (_HEAD, _bytes(ref.encode()), _INT.pack(4, line), _bytes(custom_id), _NULL, _bytes(result), tail)
        )

    def _tail(self, *facts: str) -> bytes:
        task, purpose, state, code = facts
        tail = self._tails.get((task, purpose, state, code))
        if tail is None:
            tail = self._tails[task, purpose, state, code] = self._encode(task, purpose, state, code)
        return tail

    def _encode(self, task: str, purpose: str, state: str, code: str) -> bytes:
        batch, false, none = self._batch, _LENGTH.pack(1) + b"\x00", _INT.pack(4, 0)
        now = _time(batch.rung_at)
        return b"".join(
            (
                _BIG.pack(8, batch.pk),
                *(_bytes(text.encode()) for text in (batch.client, batch.key_id, task, purpose, state, code)),
                *(none, none, false, false, _bytes(b""), now, now, _bytes(b""), now),
                _NULL if state == "queued" else now,
            )
        )


def _bytes(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _time(at: datetime) -> bytes:
    since = at - _EPOCH
    return _BIG.pack(8, (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)
