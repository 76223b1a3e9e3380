"""The bytes of a record: what PostgreSQL receives by COPY is what the leaf hash covers.

Writer and verifier share this one encoder, so that no re-serialisation stands between the log and its proof. The form
is PostgreSQL's binary COPY format (documentation, "COPY", section "Binary Format"); the hash is RFC 6962's leaf hash,
SHA-256 over 0x00 and the fields.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from appliance.audit.entry import FIELDS, NUMBER_FIELDS, Entry, Position

COLUMNS = ("shard", "seq", *FIELDS)
TABLE = "audit_record"
_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NUMBER = struct.Struct(">iq")
_INT8 = struct.Struct(">q")
_LENGTH = struct.Struct(">i")
_COUNT = struct.Struct(">h")
_LEAF_BYTES = 32
_IS_NUMBER = tuple(name in NUMBER_FIELDS for name in FIELDS)
_fields = attrgetter(*FIELDS)

READ_COLUMNS = ", ".join(f"r.{name}" for name in (*COLUMNS, "leaf"))
"""The columns of `audit_record r` in the order `read_rows` expects."""

_PLACES = ", ".join(f"${number}" for number in range(1, len(COLUMNS) + 2))
INSERT_IN = f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}, leaf) VALUES ({_PLACES})"  # noqa: S608 - names of ours

COPY_IN = f"COPY {TABLE} ({', '.join(COLUMNS)}, leaf) FROM STDIN (FORMAT BINARY)"


def values(position: Position, entry: Entry) -> list[bytes]:
    """The fields of the row in column order, in PostgreSQL's binary form, without the leaf."""
    given = zip(_fields(entry), _IS_NUMBER, strict=True)
    return [*map(_INT8.pack, position), *[_INT8.pack(value) if number else value.encode() for value, number in given]]


def joined(fields: Iterable[bytes]) -> bytes:
    """The same, each with its length before it: what the leaf hash covers."""
    return b"".join([_LENGTH.pack(len(field)) + field for field in fields])


def encode(position: Position, entry: Entry) -> bytes:
    """The bytes of one row, without the leaf."""
    return joined(values(position, entry))


def leaf(core: bytes) -> bytes:
    """RFC 6962 2.1: SHA-256(0x00 || record)."""
    return hashlib.sha256(b"\x00" + core).digest()


def copy_bytes(rows: Iterable[bytes]) -> bytes:
    """A whole binary COPY stream for rows made by `encode`."""
    parts = [_HEADER]
    for core in rows:
        parts += (_COUNT.pack(len(COLUMNS) + 1), core, _LENGTH.pack(_LEAF_BYTES), leaf(core))
    parts.append(_TRAILER)
    return b"".join(parts)


@dataclass(frozen=True)
class StoredRow:
    """A row as the database returned it: the hashed bytes, and the leaf that was stored beside them."""

    position: Position
    core: bytes
    stored_leaf: bytes

    @property
    def intact(self) -> bool:
        """Whether the fields still hash to the leaf written with them."""
        return leaf(self.core) == self.stored_leaf


def read_rows(chunks: Iterable[bytes | bytearray | memoryview]) -> Iterator[StoredRow]:
    """Cut a binary COPY TO stream of COLUMNS and leaf into rows; ValueError when it is not one.

    The stream comes from our own connection, but its fields may have been edited: a NULL or a missing column is
    reported as a row that does not hash, never as an exception half-way.
    """
    buffer = bytearray()
    waiting_for_header = True
    ended = False
    for chunk in chunks:
        if ended:
            continue  # read to the end of the protocol, or the connection is left in the middle of a COPY
        buffer += chunk
        if waiting_for_header:
            if len(buffer) < len(_HEADER):
                continue
            del buffer[: len(_HEADER)]
            waiting_for_header = False
        offset = 0
        while (end := _row_end(buffer, offset)) is not None:
            if end < 0:
                ended = True
                break
            yield _row(bytes(buffer[offset:end]))
            offset = end
        del buffer[:offset]


def _row_end(buffer: bytearray, start: int) -> int | None:
    """Where the row that begins at `start` ends; None when more bytes are needed, -1 at the trailer."""
    if len(buffer) < start + 2:
        return None
    (count,) = _COUNT.unpack_from(buffer, start)
    if count == -1:
        return -1
    at = start + 2
    for _ in range(count):
        if len(buffer) < at + 4:
            return None
        (length,) = _LENGTH.unpack_from(buffer, at)
        at += 4 + max(length, 0)
    return at if len(buffer) >= at else None


def _row(raw: bytes) -> StoredRow:
    body = raw[2:]
    tail = _LENGTH.pack(_LEAF_BYTES)
    cut = len(body) - _LEAF_BYTES - len(tail)
    (_, shard), (_, seq) = _NUMBER.unpack_from(body, 0), _NUMBER.unpack_from(body, _NUMBER.size)
    if cut < 0 or body[cut : cut + len(tail)] != tail:
        return StoredRow(Position(shard, seq), body, b"")
    return StoredRow(Position(shard, seq), body[:cut], body[cut + len(tail) :])
