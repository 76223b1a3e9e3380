"""JSON Schemas from callers and of tasks: which ones are small and plain enough, and what fits them. Pure.

A schema becomes a grammar in the engine, and a grammar can be made to cost minutes (BAD_INPUTS.md 111). So keywords
are an allow-list, of what the engine's one grammar backend takes (arguments.py pins it); references go only to the schema's
own definitions and never in a circle, and everything is counted as it stands once they are in their place: a small body
can refer to one large list many times. What a grammar ignores is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from inference.policy.ask import Decimal
from inference.policy.errors import PolicyRefusal

DEEPEST = 5
MOST_NODES = 128
MOST_ENUM = 256
LONGEST_TEXT = 2_000
MOST_BYTES = 65_536

_TYPES = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})
_WHOLE = frozenset({"minLength", "maxLength", "minItems", "maxItems"})
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_TEXTS = frozenset({"title", "description", "$schema", "$id"})
_FORMATS = frozenset({"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"})
_ONE = frozenset({"items", "additionalProperties"})
_MANY = frozenset({"properties", "$defs", "definitions"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_ANYTHING = frozenset({"default", "examples", "const"})
_LEFT_OUT = frozenset({"title", "$schema", "$id", "default", "examples"})
_MOST = 1_000_000


def check(schema: Any, *, param: str, told: bool = False) -> Mapping[str, Any]:
    """The schema, resolved to one without references, or PolicyRefusal `schema_limit`.

    `told`: the model reads it too, as it does a tool's, so its descriptions stay.
    """
    return _Walk(schema, param, _LEFT_OUT if told else _LEFT_OUT | {"description"}).whole()


def size(value: Any) -> int:
    """How many bytes of JSON it is."""
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether the value has the form the schema asks for."""
    try:
        Draft202012Validator(dict(schema)).validate(value)
    except (ValidationError, RecursionError):
        return False
    return True


class _Walk:
    """One pass over one schema: nodes and bytes are counted as they stand after every reference was put in its place."""

    def __init__(self, schema: Any, param: str, left_out: frozenset[str]) -> None:
        self._root = schema
        self._param = param
        self._left_out = left_out
        self._nodes = self._bytes = 0

    def whole(self) -> Mapping[str, Any]:
        found = self._node(self._root, depth=0, open_refs=())
        if found.get("type") not in (None, "object", "array") or not found:
            raise self._refusal("the schema describes an object")
        return found

    def _node(self, node: Any, *, depth: int, open_refs: tuple[str, ...]) -> dict[str, Any]:
        self._nodes += 1
        if self._nodes > MOST_NODES or depth > DEEPEST:
            raise self._refusal(f"a schema has at most {MOST_NODES} nodes and {DEEPEST} levels")
        if not isinstance(node, dict):
            raise self._refusal("a schema is an object")
        if "$ref" in node:
            ref = node["$ref"]
            if not isinstance(ref, str) or ref in open_refs:
                raise self._refusal("a schema refers to itself")
            siblings = {name: node[name] for name in _TEXTS | _ANYTHING if name in node}
            return {
                **self._node(self._target(ref), depth=depth, open_refs=(*open_refs, ref)),
                **self._kept({name: self._plain(name, value) for name, value in siblings.items()}),
            }
        found: dict[str, Any] = {}
        for name, value in node.items():
            if name in {"$defs", "definitions"}:
                continue  # each is counted where it is used
            found[name] = self._keyword(name, value, depth, open_refs)
        if "format" in found and ("minLength" in found or "maxLength" in found):
            raise self._refusal("a text has a format or a length, not both")
        return self._kept(found)

    def _kept(self, found: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in found.items() if name not in self._left_out}

    def _count(self, value: Any) -> None:
        self._bytes += size(value)
        if self._bytes > MOST_BYTES:
            raise self._refusal(f"a schema has at most {MOST_BYTES} bytes, counted with each reference in its place")

    def _keyword(self, name: str, value: Any, depth: int, open_refs: tuple[str, ...]) -> Any:
        if name in _ONE:
            return value if isinstance(value, bool) else self._node(value, depth=depth + 1, open_refs=open_refs)
        if name in _MANY and isinstance(value, dict):
            self._check_names(value)
            return {key: self._node(child, depth=depth + 1, open_refs=open_refs) for key, child in value.items()}
        if name in _LISTS and isinstance(value, list) and 0 < len(value) <= MOST_NODES:
            return [self._node(child, depth=depth, open_refs=open_refs) for child in value]
        return self._plain(name, value)

    def _plain(self, name: str, value: Any) -> Any:
        good = False
        if name == "type":
            kinds = value if isinstance(value, list) else [value]
            good = 0 < len(kinds) <= len(_TYPES) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
        elif name in _WHOLE:
            good = type(value) is int and 0 <= value <= _MOST
        elif name in _NUMBERS:
            good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 2**53
        elif name in _TEXTS:
            good = isinstance(value, str) and len(value) <= LONGEST_TEXT
        elif name == "required":
            good = isinstance(value, list) and all(isinstance(item, str) for item in value) and len(value) <= MOST_NODES
        elif name == "enum":
            good = isinstance(value, list) and 0 < len(value) <= MOST_ENUM and all(_scalar(item) for item in value)
        elif name == "format":
            good = isinstance(value, str) and value in _FORMATS
        elif name in {"strict", "deprecated", "readOnly", "writeOnly"}:
            good = isinstance(value, bool)
        elif name in _ANYTHING:
            good = _scalar(value) or (isinstance(value, list) and len(value) <= MOST_ENUM and all(map(_scalar, value)))
        if not good:
            shown = name if name.isascii() and name.isidentifier() and len(name) <= 32 else "?"
            raise self._refusal(f"the keyword {shown} is not taken, or not with that value")
        if name not in self._left_out:
            self._count({name: value})
        return float(value) if isinstance(value, Decimal) else value

    def _target(self, ref: str) -> Any:
        node = self._root
        if not ref.startswith(("#/$defs/", "#/definitions/")):
            raise self._refusal("a reference goes to the schema's own $defs")
        for part in ref[2:].split("/"):
            if not isinstance(node, dict) or part not in node:
                raise self._refusal("a reference leads nowhere")
            node = node[part]
        return node

    def _check_names(self, properties: Mapping[str, Any]) -> None:
        if any(not 0 < len(name) <= 64 or not name.isprintable() for name in properties):
            raise self._refusal("a property's name has 1 to 64 printable characters")
        self._count(list(properties))

    def _refusal(self, message: str) -> PolicyRefusal:
        return PolicyRefusal("schema_limit", message, param=self._param)


def _scalar(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    return value is None or isinstance(value, bool | int | float)


def texts(schema: Any) -> Iterator[str]:
    """Every text in a schema: what the model may be told to say is content too, and is looked at as such."""
    if isinstance(schema, str):
        yield schema
    elif isinstance(schema, Mapping):
        for name, value in schema.items():
            yield name
            yield from texts(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from texts(value)
