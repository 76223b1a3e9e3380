"""What an engine that is held to a JSON Schema would write: the smallest value that fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def instance(schema: Mapping[str, Any]) -> Any:
    """A value of the schema's form; where there is a choice, the first."""
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    for name in ("enum", "anyOf", "oneOf"):
        if name in schema:
            return schema[name][0] if name == "enum" else instance(schema[name][0])
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: instance(properties[name]) for name in properties if name in schema.get("required", [])}
    if kind == "array":
        return [instance(schema.get("items", {}))] * schema.get("minItems", 1)
    plain: dict[str, Any] = {"string": "well", "integer": 7, "number": 1.5, "boolean": True, "null": None}
    return plain[kind]
