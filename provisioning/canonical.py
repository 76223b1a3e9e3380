"""One byte form for everything that is signed or hashed.

Decides how a JSON value becomes bytes. Leaves to others what those bytes mean.

Sorted keys, no white space, ASCII only, integers only: two writers that agree on the value agree on the bytes.
Floats are refused because their text differs between languages, and a digest that depends on it is not evidence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


class NotCanonicalError(ValueError):
    """The value has no canonical form (a float, a non-text key, an unknown type)."""


def dumps(value: Any) -> bytes:
    """The canonical bytes of a JSON value; raises NotCanonicalError for floats, non-text keys and other types."""
    _check(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def digest(value: Any) -> str:
    """SHA-256 over the canonical bytes, 64 lower-case hex digits."""
    return hashlib.sha256(dumps(value)).hexdigest()


def _check(value: Any) -> None:
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                msg = f"a key is {type(key).__name__}, not text"
                raise NotCanonicalError(msg)
            _check(inner)
        return
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for inner in value:
            _check(inner)
        return
    msg = f"{type(value).__name__} has no canonical form"
    raise NotCanonicalError(msg)
