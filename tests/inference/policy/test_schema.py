"""JSON Schemas from callers (BAD_INPUTS.md 111): small and plain ones pass, everything that could cost the engine does not."""

from __future__ import annotations

from typing import Any

import pytest

from inference.policy import schema
from inference.policy.errors import PolicyRefusal

PATIENT = {
    "title": "Visit",
    "type": "object",
    "properties": {
        "codes": {"type": "array", "items": {"$ref": "#/$defs/Code"}, "maxItems": 8},
        "urgent": {"type": "boolean", "default": False},
        "severity": {"enum": ["mild", "severe", None]},
    },
    "required": ["codes"],
    "additionalProperties": False,
    "$defs": {"Code": {"type": "object", "properties": {"code": {"type": "string", "maxLength": 8}}}},
}


def refused(value: Any) -> str:
    with pytest.raises(PolicyRefusal) as error:
        schema.check(value, param="p")
    assert error.value.param == "p"
    return error.value.code


def nested(levels: int) -> dict[str, Any]:
    node: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        node = {"type": "object", "properties": {"x": node}}
    return node


def test_a_schema_as_pydantic_writes_it_passes_with_its_references_put_in_place() -> None:
    found = schema.check(PATIENT, param="p")
    assert "$defs" not in found
    assert found["properties"]["codes"]["items"]["properties"]["code"] == {"type": "string", "maxLength": 8}
    assert found["required"] == ["codes"]


def test_five_levels_pass_and_six_do_not() -> None:
    assert schema.check(nested(5), param="p")
    assert refused(nested(6)) == "schema_limit"


def test_128_nodes_pass_and_129_do_not() -> None:
    def wide(count: int) -> dict[str, Any]:
        return {"type": "object", "properties": {f"f{n}": {"type": "string"} for n in range(count - 1)}}

    assert schema.check(wide(128), param="p")
    assert refused(wide(129)) == "schema_limit"


def test_a_definition_counts_each_time_it_is_used() -> None:
    big = {"type": "object", "properties": {f"f{n}": {"type": "string"} for n in range(60)}}
    once = {"type": "object", "properties": {"a": {"$ref": "#/$defs/big"}}, "$defs": {"big": big}}
    assert schema.check(once, param="p")
    thrice = {**once, "properties": {name: {"$ref": "#/$defs/big"} for name in "abc"}}
    assert refused(thrice) == "schema_limit"


@pytest.mark.parametrize("keyword", ["enum", "const", "required"])
def test_a_small_body_cannot_become_a_huge_schema_by_its_references(keyword: str) -> None:
    text = "v" * schema.LONGEST_TEXT
    big: dict[str, Any] = {"enum": [text] * 8} if keyword == "enum" else {"const": [text] * 8}
    if keyword == "required":
        big = {"type": "object", "required": [text] * 8}
    value = {
        "type": "object",
        "properties": {f"f{n}": {"$ref": "#/$defs/big"} for n in range(62)},
        "$defs": {"big": big},
    }
    assert refused(value) == "schema_limit"
    value["properties"] = {f"f{n}": {"$ref": "#/$defs/big"} for n in range(3)}
    assert schema.size(schema.check(value, param="p")) < schema.MOST_BYTES


def test_what_a_grammar_ignores_is_left_out_and_what_the_model_is_told_is_not() -> None:
    value = {
        "type": "object",
        "title": "T",
        "description": "D",
        "properties": {
            "title": {"type": "string", "title": "x", "description": "d", "default": "", "examples": ["a"] * 200},
            "ref": {"$ref": "#/$defs/X", "description": "of it", "default": None},
        },
        "$defs": {"X": {"type": "string", "examples": ["y" * 2_000] * 200, "description": "X"}},
    }
    plain = {"type": "object", "properties": {"title": {"type": "string"}, "ref": {"type": "string"}}}
    assert schema.check(value, param="p") == plain
    told = schema.check(value, param="p", told=True)
    assert told["description"] == "D"
    assert told["properties"] == {
        "title": {"type": "string", "description": "d"},
        "ref": {"type": "string", "description": "of it"},
    }


@pytest.mark.parametrize(
    "value",
    [
        None, [], "x", 5, {}, {"type": "string"}, {"type": "tuple"}, {"type": []},
        {"type": "object", "properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$ref": "#/$defs/x"}}},
        {"type": "object", "properties": {"x": {"$ref": "#"}}},
        {"type": "object", "properties": {"x": {"$ref": "http://elsewhere/x.json"}}},
        {"type": "object", "properties": {"x": {"$ref": "#/$defs/none"}}},
        {"type": "object", "properties": {"x": {"enum": ["v"] * 10_000}}},
        {"type": "object", "properties": {"x": {"enum": []}}},
        {"type": "object", "properties": {"x": {"type": "string", "pattern": "(a+)+$"}}},
        {"type": "object", "properties": {"x": {"description": "(" * 30_000}}},
        {"type": "object", "patternProperties": {"(a+)+$": {"type": "string"}}},
        {"type": "object", "properties": {"x": {"type": "string", "maxLength": 10**9}}},
        {"type": "object", "properties": {"x": {"type": "integer", "minimum": True}}},
        {"type": "object", "properties": {"x\n": {"type": "string"}}},
        {"type": "object", "properties": []}, {"type": "object", "required": "x"}, {"type": "object", "anyOf": []},
        {"type": "object", "evil": 1}, {"type": "object", "properties": {"x": {"type": "integer", "multipleOf": 2}}},
        {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}},
        {"type": "object", "properties": {"x": {"type": "string", "format": "regex"}}},
        {"type": "object", "properties": {"x": {"type": "string", "format": "date", "maxLength": 10}}},
    ],
)  # fmt: skip
def test_what_could_cost_the_engine_or_means_nothing_is_refused(value: Any) -> None:
    assert refused(value) == "schema_limit"


def test_a_value_fits_or_it_does_not() -> None:
    found = schema.check(PATIENT, param="p")
    assert schema.fits({"codes": [{"code": "I10"}]}, found)
    assert not schema.fits({"codes": "I10"}, found)
    assert not schema.fits({"codes": [], "more": 1}, found)
