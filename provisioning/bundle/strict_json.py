"""A JSON reader that has one reading for each document, and bounded cost for any.

Decides: syntax, depth, size, number range, no key twice. Leaves to the caller which keys may occur and what they mean.

- UTF-8 without a byte order mark; nothing after the one document.
- Depth is counted over the bytes before parsing, so no input reaches Python's recursion limit.
- Whole numbers fit 64 bits; `-0`, NaN and Infinity do not exist; fractions only where the caller expects them.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_LONGEST_NUMBER = 32
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Possessive, with the closing quote optional: an unclosed string is one match, not a quadratic search.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonError(ValueError):
    """Not acceptable JSON; `kind` is size, syntax, depth, number or duplicate."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Limits:
    """How much a document may ask of us."""

    size: int
    depth: int = 16
    fractions: bool = False


def loads(data: bytes, limits: Limits) -> Any:
    """The one value in `data`, or JsonError."""
    if len(data) > limits.size:
        raise JsonError("size", f"more than {limits.size} bytes")
    if data.startswith(_BYTE_ORDER_MARK):
        raise JsonError("syntax", "starts with a byte order mark")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonError("syntax", "is not UTF-8") from None
    _check_depth(data, limits.depth)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_pairs,
            parse_int=_whole,
            parse_float=_fraction if limits.fractions else _no_fraction,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        raise JsonError("syntax", f"not JSON at byte {error.pos}") from None
    if _SURROGATE.search(data):
        _check_surrogates(value)
    return value


def _check_depth(data: bytes, limit: int) -> None:
    depth = 0
    for match in _STRUCTURE.finditer(data):
        mark = match.group()
        if mark in (b"{", b"["):
            depth += 1
            if depth > limit:
                raise JsonError("depth", f"nested deeper than {limit}")
        elif mark in (b"}", b"]"):
            depth -= 1


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise JsonError("syntax", "half a surrogate pair") from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise JsonError("duplicate", "a key occurs twice in one object")
    return result


def _whole(text: str) -> int:
    # Length first: Python refuses very long integers with an error of its own.
    if text == "-0" or len(text) > _LONGEST_NUMBER:
        raise JsonError("number", "a number outside 64 bits")
    value = int(text)
    if not _SMALLEST <= value <= _LARGEST:
        raise JsonError("number", "a number outside 64 bits")
    return value


def _fraction(text: str) -> float:
    value = float(text) if len(text) <= _LONGEST_NUMBER else math.inf
    if not math.isfinite(value):
        raise JsonError("number", "a number without a finite value")
    return value


def _no_fraction(_text: str) -> NoReturn:
    raise JsonError("number", "a fraction where only whole numbers are allowed")


def _no_constant(_text: str) -> NoReturn:
    raise JsonError("number", "NaN or Infinity")
