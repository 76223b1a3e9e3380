"""How a JSON Schema is written here. Objects hold what is listed and nothing else, on the way in and on the way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Shape = dict[str, Any]

NULL: Shape = {"type": "null"}
FLAG: Shape = {"type": "boolean"}
COUNT: Shape = {"type": "integer", "minimum": 0}
WHEN: Shape = {"type": "integer", "minimum": 0, "description": "Unix time in seconds"}
MOMENT: Shape = {"type": "string", "format": "date-time"}
TOKEN: Shape = {"type": "string", "pattern": r"^[A-Za-z0-9._:@/+-]{1,128}$"}
ANY_OBJECT: Shape = {"type": "object"}


def text(most: int, least: int = 0) -> Shape:
    return {"type": "string", "minLength": least, "maxLength": most}


def number(low: float, high: float) -> Shape:
    return {"type": "number", "minimum": low, "maximum": high}


def whole(low: int, high: int) -> Shape:
    return {"type": "integer", "minimum": low, "maximum": high}


def one_of(values: Iterable[str]) -> Shape:
    return {"type": "string", "enum": list(values)}


def just(value: Any) -> Shape:
    return {"const": value}


def items(shape: Shape, most: int | None = None, least: int = 0) -> Shape:
    bound = {} if most is None else {"maxItems": most}
    return {"type": "array", "items": shape, "minItems": least, **bound}


def either(*shapes: Shape) -> Shape:
    return {"anyOf": list(shapes)}


def maybe(shape: Shape) -> Shape:
    """The shape, or null."""
    return either(shape, NULL)


def ref(name: str) -> Shape:
    return {"$ref": f"#/components/schemas/{name}"}


def taken(required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    """An object of a caller's. A field that may be missing may be null as well: to this door that is the same."""
    others = {name: maybe(shape) for name, shape in (optional or {}).items()}
    return _object({**required, **others}, list(required))


def given(fields: Mapping[str, Shape], sometimes: Mapping[str, Shape] | None = None) -> Shape:
    """An object of ours: every field is always there, but for those that are there only sometimes."""
    return _object({**fields, **(sometimes or {})}, list(fields))


def page(of: Shape, **more: Shape) -> Shape:
    """A list as OpenAI's clients read one."""
    return given({"object": just("list"), "data": items(of), **more})


def _object(properties: Mapping[str, Shape], required: list[str]) -> Shape:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }
