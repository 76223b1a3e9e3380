"""Bad bodies (BAD_INPUTS.md group G), each with its exact code and, where it names one, its field. No process needed."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from inference.api import document, schemas
from inference.api.errors import TABLE, BadRequestError
from inference.policy.ask import Decimal, Turn
from inference.policy.errors import PolicyRefusal
from tests.corpus.bodies import BODIES, Body, body
from tests.simulators.lan import RECORD, chat_body


def refused(data: bytes) -> BadRequestError | PolicyRefusal:
    began = time.process_time()
    with pytest.raises((BadRequestError, PolicyRefusal)) as error:
        schemas.chat(document.parse(data))
    assert time.process_time() - began < 2
    found = error.value
    if not isinstance(found, BadRequestError | PolicyRefusal):
        raise AssertionError(type(found))
    assert TABLE[found.code][0] == 400
    return found


def test_the_good_body_is_taken() -> None:
    request = schemas.chat(document.parse(body()))
    assert request.ask.record == RECORD
    assert (request.ask.task, request.ask.purpose, request.stream) == ("progress_note", "TREAT", False)


@pytest.mark.parametrize("bad", BODIES, ids=str)
def test_a_bad_body_gets_its_code_and_names_its_field(bad: Body) -> None:
    if bad.parsed:
        schemas.chat(document.parse(bad.data))  # nothing that a parser can know
        return
    found = refused(bad.data)
    assert found.code == bad.code
    assert bad.param is None or found.param == bad.param


def test_no_item_stands_twice() -> None:
    names = [str(bad) for bad in BODIES]
    assert len(names) == len(set(names))


def test_brackets_inside_strings_are_not_depth() -> None:
    content = json.dumps({**RECORD, "plan": '[{"' * 100 + "\\" * 7})
    assert schemas.chat(document.parse(body(messages=[{"role": "user", "content": content}]))).ask.record


@pytest.mark.parametrize(
    "messages",
    [
        [], "x", {}, [{"role": "user", "content": "hello"}], [{"role": "user", "content": "[]"}],
        [{"role": "user", "content": '"x"'}], [{"role": "user", "content": ""}], [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "text", "text": "{}"}]}], [{"role": "system", "content": "{}"}],
        [{"role": "user", "content": "{}"}] * 2, [{"role": "system", "content": "x"}, {"role": "user", "content": "{}"}],
        [{"role": "user"}],
    ],
)  # fmt: skip
def test_anything_but_one_record_is_refused(messages: Any) -> None:
    assert refused(body(messages=messages)).code == "record_required"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ('{"age": 1, "age": 2}', "duplicate_key"),
        ('{"age": NaN}', "invalid_number"),
        ('{"age": 1e400}', "invalid_number"),
        ('{"plan": ' + "[" * 40 + "]" * 40 + "}", "too_deep"),
        ('{"plan": "\\ud800"}', "record_required"),
        ('{"plan": [' + "1," * 30_000 + "1]}", "too_many_values"),
    ],
)
def test_the_record_stands_under_the_same_limits_as_the_body(content: str, code: str) -> None:
    assert refused(body(messages=[{"role": "user", "content": content}])).code == code


def conversation(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages), "metadata": {"task": "conversation", "purpose": "TREAT"}}


def turns(*messages: Any) -> tuple[Turn, ...]:
    return schemas.chat(document.parse(body(**conversation(*messages)))).ask.turns


def test_a_conversation_keeps_its_turns_in_order() -> None:
    assert turns(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Is it "}, {"type": "text", "text": "well?"}]},
        {"role": "assistant", "content": "Yes.", "refusal": None, "annotations": []},
        {"role": "user", "content": "Sure?"},
    ) == (Turn("system", "Be brief."), Turn("user", "Is it well?"), Turn("assistant", "Yes."), Turn("user", "Sure?"))


def test_calls_and_results_of_tools_become_plain_turns() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"code": "I10"}'}}
    assert turns(
        {"role": "user", "content": "What is I10?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "hypertension"},
    )[1:] == (
        Turn("assistant", '{"tool": "look_up", "arguments": {"code": "I10"}}'),
        Turn("user", "Result of look_up: hypertension"),
    )


@pytest.mark.parametrize(
    ("messages", "code", "param"),
    [
        ([{"role": "root", "content": "x"}], "out_of_range", "messages.0.role"),
        ([{"content": "x"}], "missing_field", "messages.0.role"),
        ([{"role": "system", "content": "x"}], "out_of_range", "messages"),
        ([{"role": "user", "content": 5}], "wrong_type", "messages.0.content"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "out_of_range", "messages.0.content.0.type"),
        ([{"role": "user", "content": "x", "name": "y"}], "unknown_field", "messages.0.name"),
        ([{"role": "user", "content": "x", "tool_calls": []}], "unknown_field", "messages.0.tool_calls"),
        ([{"role": "tool", "tool_call_id": "c9", "content": "x"}], "out_of_range", "messages.0.tool_call_id"),
        ([{"role": "user", "content": "x"}] * 257, "out_of_range", "messages"),
        (["x"], "wrong_type", "messages.0"),
    ],
)  # fmt: skip
def test_a_turn_of_another_form_is_refused_by_its_field(messages: list[Any], code: str, param: str) -> None:
    error = refused(body(**conversation(*messages)))
    assert (error.code, error.param) == (code, param)


def test_no_refusal_quotes_a_value() -> None:
    canary = "Quimby-Zarathustra"
    for changes in ({"model": canary * 20}, {"temperature": canary}, {"metadata": {"task": f"{canary} {canary}"}}):
        error = refused(body(**changes))
        assert canary not in error.message
        assert canary not in str(error)


def test_a_record_keeps_the_spelling_of_its_numbers() -> None:
    record = document.parse(b'{"inr": 1.20, "count": 7, "e": 1E2}')
    assert isinstance(record["inr"], Decimal)
    assert (record["inr"].text, record["count"], record["e"].text) == ("1.20", 7, "1E2")


def test_a_megabyte_of_anything_is_decided_quickly() -> None:
    for raw in (b'"' * 1_000_000, b"\\" * 1_000_000, b'"\\' * 500_000, b"[]" * 500_000, b'{"a":"' + b"x" * 1_000_000):
        refused(raw)


@pytest.mark.parametrize("job", [{}, {"request": None}, {"request": []}, {"request": chat_body(), "priority": 1}])
def test_a_job_holds_one_request_and_nothing_else(job: Any) -> None:
    with pytest.raises(BadRequestError) as error:
        schemas.job(job)
    assert error.value.code in {"wrong_type", "unknown_field"}


def test_a_job_is_not_streamed_and_names_its_fields_from_the_top() -> None:
    with pytest.raises(BadRequestError) as streamed:
        schemas.job({"request": chat_body(stream=True)})
    assert streamed.value.param == "request.stream"
    with pytest.raises(BadRequestError) as unknown:
        schemas.job({"request": chat_body(min_p=1)})
    assert unknown.value.param == "request.min_p"


def test_many_tools_are_bounded_together_too() -> None:
    text = {"type": "object", "properties": {f"f{n}": {"$ref": "#/$defs/x"} for n in range(30)}}
    large = {**text, "$defs": {"x": {"enum": ["v" * 1_000, "w" * 1_000]}}}

    def offering(count: int) -> bytes:
        tools = [{"type": "function", "function": {"name": f"t{n}", "parameters": large}} for n in range(count)]
        return body(tools=tools)

    assert len(schemas.chat(document.parse(offering(4))).ask.tools) == 4
    found = refused(offering(5))
    assert (found.code, found.param) == ("schema_limit", "tools")
