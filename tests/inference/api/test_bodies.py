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
from tests.simulators.lan import RECORD, chat_body

DEEP = 100_000
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


def refused(body: bytes) -> BadRequestError | PolicyRefusal:
    began = time.monotonic()
    with pytest.raises((BadRequestError, PolicyRefusal)) as error:
        schemas.chat(document.parse(body))
    assert time.monotonic() - began < 2
    found = error.value
    if not isinstance(found, BadRequestError | PolicyRefusal):
        raise AssertionError(type(found))
    assert TABLE[found.code][0] == 400
    return found


def body(**changes: Any) -> bytes:
    return json.dumps(chat_body(**changes)).encode()


def with_text(text: str) -> bytes:
    """The good body with one more top-level field, written as given."""
    return json.dumps(chat_body()).encode()[:-1] + b", " + text.encode() + b"}"


def test_the_good_body_is_taken() -> None:
    request = schemas.chat(document.parse(body()))
    assert request.ask.record == RECORD
    assert (request.ask.task, request.ask.purpose, request.stream) == ("progress_note", "TREAT", False)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"{", b"}", b"{}{}", b"{} {}", b'{"a": 1,}', b"{'a': 1}", b"// x\n{}", b"/* x */ {}", b"{a: 1}",
        b"null", b"[]", b'"x"', b"1", b"true", b"\xef\xbb\xbf{}", '{"a": 1}'.encode("utf-16"), '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32"), b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\x00"}', b'{"a": "\n"}',
        b'{"a": "\\ud800"}', b'{"a": "\\x41"}', b'{"a": 01}', b'{"a": +1}', b'{"a": .5}', b'{"a": 1.}', b'{"a": 0x10}',
        b'{"a": 1_000}', b'{"a" 1}', b'{"a": "unterminated}', b'"' + b'\\"' * 400_000, b'{"a": undefined}',
    ],
)  # fmt: skip
def test_what_is_not_one_json_object_is_invalid_json(raw: bytes) -> None:
    assert refused(raw).code == "invalid_json"


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 33, b"[" * DEEP, b'{"a":' * DEEP, b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}",
        with_text('"x": ' + "[" * 33 + "]" * 33), b"[" * DEEP + b"]" * DEEP,
    ],
)  # fmt: skip
def test_deeper_than_thirty_two_is_too_deep(raw: bytes) -> None:
    assert refused(raw).code == "too_deep"


def test_brackets_inside_strings_are_not_depth() -> None:
    content = json.dumps({**RECORD, "plan": '[{"' * 100 + "\\" * 7})
    assert schemas.chat(document.parse(body(messages=[{"role": "user", "content": content}]))).ask.record


def test_too_many_values_are_refused_before_they_are_built() -> None:
    assert refused(b"[" + b"[]," * 300_000 + b"[]]").code == "too_many_values"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 5000, "0." + "1" * 5000])
def test_a_number_that_is_none_is_invalid(number: str) -> None:
    assert refused(with_text(f'"seed": {number}')).code == "invalid_number"


@pytest.mark.parametrize("text", ['"model": "x"', '"mod\\u0065l": "x"'])
def test_a_key_twice_is_refused_however_it_is_spelled(text: str) -> None:
    assert refused(with_text(text)).code == "duplicate_key"


@pytest.mark.parametrize(
    "name",
    [
        "__proto__", "extra_body", "user_config", "chat_template", "chat_template_kwargs", "documents",
        "add_generation_prompt", "continue_final_message", "guided_json", "guided_regex", "structured_outputs",
        "functions", "best_of", "use_beam_search", "prompt_logprobs", "top_k", "min_p",
        "repetition_penalty", "logit_bias", "cache_salt", "kv_transfer_params", "thinking_token_budget", "priority", "request_id",
        "vllm_xargs", "return_token_ids", "echo", "ignore_eos", "bad_words", "lane", "service_tier",
        "modalities", "audio", "prediction", "mm_processor_kwargs", "skip_special_tokens", "", "Model", "model ",
    ],
)  # fmt: skip
def test_an_unknown_field_is_refused_by_its_name(name: str) -> None:
    error = refused(with_text(f"{json.dumps(name)}: 1"))
    assert error.code == "unknown_field"
    assert error.param == (name if name and " " not in name else "?")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"metadata": {"task": "progress_note", "purpose": "TREAT", "lane": "stat"}}, "metadata.lane"),
        ({"messages": [{"role": "user", "content": "{}", "name": "x"}]}, "messages.0.name"),
        ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats"),
    ],
)
def test_an_unknown_field_is_refused_at_every_depth(changes: dict[str, Any], param: str) -> None:
    error = refused(body(**changes))
    assert (error.code, error.param) == ("unknown_field", param)


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"model": ""}, "out_of_range", "model"),
        ({"model": 5}, "wrong_type", "model"),
        ({"model": None}, "missing_field", "model"),
        ({"messages": None}, "missing_field", "messages"),
        ({"metadata": []}, "wrong_type", "metadata"),
        ({"metadata": "x"}, "wrong_type", "metadata"),
        ({"temperature": -0.1}, "out_of_range", "temperature"),
        ({"temperature": 2.01}, "out_of_range", "temperature"),
        ({"temperature": "0"}, "wrong_type", "temperature"),
        ({"temperature": True}, "wrong_type", "temperature"),
        ({"top_p": 0}, "out_of_range", "top_p"),
        ({"top_p": 1.01}, "out_of_range", "top_p"),
        ({"seed": 2**64}, "out_of_range", "seed"),
        ({"seed": 1.5}, "wrong_type", "seed"),
        ({"n": 2}, "out_of_range", "n"),
        ({"n": True}, "wrong_type", "n"),
        ({"max_tokens": 0}, "out_of_range", "max_tokens"),
        ({"max_tokens": 10**9}, "out_of_range", "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "out_of_range", "max_tokens"),
        ({"stop": ["x"] * 17}, "out_of_range", "stop"),
        ({"stop": "x" * 257}, "out_of_range", "stop"),
        ({"stop": ""}, "out_of_range", "stop"),
        ({"stop": [""]}, "out_of_range", "stop"),
        ({"stop": [1]}, "wrong_type", "stop"),
        ({"stop": {"a": 1}}, "wrong_type", "stop"),
        ({"stream": "true"}, "wrong_type", "stream"),
        ({"stream": 1}, "wrong_type", "stream"),
        ({"stream_options": {"include_usage": True}}, "out_of_range", "stream_options"),
        ({"stream": True, "stream_options": []}, "wrong_type", "stream_options"),
        ({"frequency_penalty": 2.01}, "out_of_range", "frequency_penalty"),
        ({"presence_penalty": -2.01}, "out_of_range", "presence_penalty"),
        ({"logprobs": 1}, "wrong_type", "logprobs"),
        ({"top_logprobs": 1}, "out_of_range", "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 6}, "out_of_range", "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 10**9}, "out_of_range", "top_logprobs"),
        ({"store": True}, "out_of_range", "store"),
        ({"tools": {}}, "wrong_type", "tools"),
        ({"tools": [TOOL] * 129}, "out_of_range", "tools"),
        ({"tools": [TOOL, TOOL]}, "out_of_range", "tools"),
        ({"tools": [{"type": "function", "function": {"name": "look up"}}]}, "out_of_range", "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {}}]}, "missing_field", "tools.0.function.name"),
        ({"tools": [{"type": "retrieval", "function": {"name": "x"}}]}, "out_of_range", "tools.0.type"),
        ({"tools": [{"type": "function", "function": {"name": "x", "url": "x"}}]}, "unknown_field", "tools.0.function.url"),
        ({"tools": [TOOL], "tool_choice": "look_down"}, "out_of_range", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "out_of_range", "tool_choice"),
        ({"tool_choice": "auto"}, "out_of_range", "tool_choice"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "out_of_range", "response_format"),
        ({"response_format": {"type": "grammar"}}, "out_of_range", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "missing_field", "response_format.json_schema.name"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"pattern": "(a+)+$"}}}},
         "schema_limit", "response_format.json_schema.schema"),
        ({"user": "two words"}, "out_of_range", "user"),
        ({"user": "x" * 129}, "out_of_range", "user"),
        ({"metadata": {"task": "progress note"}}, "out_of_range", "metadata.task"),
        ({"metadata": {"task": 7}}, "wrong_type", "metadata.task"),
        ({"metadata": {"data_class": "secret"}}, "out_of_range", "metadata.data_class"),
        ({"metadata": {"patient_id": "x\n"}}, "out_of_range", "metadata.patient_id"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_range_or_type_is_refused_by_its_field(changes: Any, code: str, param: str) -> None:
    error = refused(body(**changes))
    assert (error.code, error.param) == (code, param)


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
        schemas.job({"request": chat_body(top_k=1)})
    assert unknown.value.param == "request.top_k"
