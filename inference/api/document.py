"""From the bytes of a body to a JSON value, or a refusal with its code. What the value must hold is `schemas`.

Every limit is decided on the bytes, before a parser builds anything:

- UTF-8 only, no BOM, no NUL byte; Python's own parser would guess UTF-16.
- Depth and number of values by one scan that skips strings, so that nothing recurses.
- A key twice in one object is refused: two readers could each see another one.
- Numbers are finite and short, and keep the spelling they came with.
"""

from __future__ import annotations

import json
import re
from typing import Any

from inference.api.errors import BadRequestError
from inference.policy.ask import Decimal

DEEPEST = 32
MOST_VALUES = 20_000
LONGEST_NUMBER = 32

# Possessive throughout, and matching even an unterminated string to its end: one pass, whatever the bytes are.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_OPEN = frozenset(b"[{")


def parse(body: bytes) -> Any:
    """The one JSON value in the body, or BadRequestError."""
    text = _text(body)
    _scan(body)
    try:
        value = _decode(text)
    except (ValueError, RecursionError):
        # The parser's message quotes the body; the code says enough.
        raise BadRequestError("invalid_json", "the body is not one JSON document") from None
    # A lone surrogate is legal in JSON's escapes and in no UTF-8: it would fail later, in the middle.
    if "\\u" in text and not _encodable(value):
        raise BadRequestError("invalid_json", "the body holds half of a surrogate pair")
    return value


def _text(body: bytes) -> str:
    if body.startswith(b"\xef\xbb\xbf") or b"\x00" in body:
        raise BadRequestError("invalid_json", "the body is not UTF-8 without a byte order mark")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequestError("invalid_json", "the body is not UTF-8") from None


def _scan(body: bytes) -> None:
    opened = body.count(b"[") + body.count(b"{")
    if opened <= DEEPEST and opened + body.count(b",") <= MOST_VALUES:
        return  # within both, even with what stands in its strings: no need to tell them apart
    bare = _STRING.sub(b"", body)
    opened = bare.count(b"[") + bare.count(b"{")
    if opened > DEEPEST:  # with fewer it cannot be deeper, and most bodies are spared the walk
        _check_depth(bare)
    if opened + bare.count(b",") > MOST_VALUES:
        raise BadRequestError("too_many_values", f"the body holds no more than {MOST_VALUES} values")


def _check_depth(bare: bytes) -> None:
    depth = 0
    for mark in _BRACKET.finditer(bare):
        depth += 1 if mark[0][0] in _OPEN else -1
        if depth > DEEPEST:
            raise BadRequestError("too_deep", f"nesting goes no deeper than {DEEPEST}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequestError("duplicate_key", "an object names a key twice")
    return found


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise BadRequestError("invalid_number", f"a number has at most {LONGEST_NUMBER} characters")
    return int(text)


def _decimal(text: str) -> Decimal:
    if len(text) > LONGEST_NUMBER:
        raise BadRequestError("invalid_number", f"a number has at most {LONGEST_NUMBER} characters")
    number = Decimal(text)
    if number in {float("inf"), float("-inf")}:
        raise BadRequestError("invalid_number", "a number is too large")
    return number


def _constant(_text: str) -> Any:
    raise BadRequestError("invalid_number", "NaN and Infinity are not JSON")


# Made once: json.loads makes a decoder for each call that has hooks.
_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
).decode


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
