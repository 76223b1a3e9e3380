"""Group G: bad bodies of `POST /v1/chat/completions`, and the code each must get. Numbers are those of BAD_INPUTS.

Those that no parser can know (a special token of the model, a prompt too long for it) say so with `parsed`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.simulators.lan import RECORD, chat_body

DEEP = 100_000
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
CONVERSATION = {"task": "conversation", "purpose": "TREAT"}


@dataclass(frozen=True)
class Body:
    """One body; the only answer to it is a 400 with this code, and the field it names where it names one."""

    item: int
    name: str
    data: bytes
    code: str
    param: str | None = None
    parsed: bool = False

    def __str__(self) -> str:
        return f"{self.item}-{self.name}"


BODIES: list[Body] = []


def body(**changes: Any) -> bytes:
    return json.dumps(chat_body(**changes)).encode()


def with_text(text: str) -> bytes:
    """The good body with one more top-level field, written as given."""
    return json.dumps(chat_body()).encode()[:-1] + b", " + text.encode() + b"}"


def raw(item: int, code: str, *bodies: bytes, param: str | None = None) -> None:
    start = sum(found.item == item for found in BODIES)
    BODIES.extend(Body(item, f"raw{number}", data, code, param) for number, data in enumerate(bodies, start))


def unknown(item: int, *names: str) -> None:
    """A field that is not one of ours, named back when its name can be shown."""
    for name in names:
        shown = name if name and " " not in name else "?"
        BODIES.append(Body(item, name or "empty", with_text(f"{json.dumps(name)}: 1"), "unknown_field", shown))


def field(item: int, param: str, code: str, *values: Any, **others: Any) -> None:
    """The good body with one field changed: the refusal names it, or the part of it given after a colon."""
    name, _, below = param.partition(":")
    for value in values:
        number = sum(found.item == item for found in BODIES)
        data = body(**{name: value}, **others)
        BODIES.append(Body(item, f"{name}{number}", data, code, f"{name}.{below}" if below else name))


def schema(value: Any, code: str = "schema_limit", param: str = "response_format.json_schema.schema") -> None:
    """A JSON Schema for the answer that may not become a grammar."""
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}
    number = sum(found.item == 111 for found in BODIES)
    BODIES.append(Body(111, f"schema{number}", body(response_format=wanted), code, param))


def content(item: int, code: str, *texts: str, param: str | None = None, parsed: bool = False) -> None:
    """The good body with this as its record, as the client wrote it."""
    for text in texts:
        number = sum(found.item == item for found in BODIES)
        data = body(messages=[{"role": "user", "content": text}])
        BODIES.append(Body(item, f"record{number}", data, code, param, parsed))


# --- 103: not one JSON document, or not an object
raw(
    103,
    "invalid_json",
    *(
        b"", b" ", b"{", b"}", b"{}{}", b"{} {}", b'{"a": 1,}', b"{'a': 1}", b"// x\n{}", b"/* x */ {}", b"{a: 1}",
        b"null", b"[]", b'"x"', b"1", b"true", b"\xef\xbb\xbf{}", '{"a": 1}'.encode("utf-16"), '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32"), b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\x00"}', b'{"a": "\n"}',
        b'{"a": "\\ud800"}', b'{"a": "\\x41"}', b'{"a": 01}', b'{"a": +1}', b'{"a": .5}', b'{"a": 1.}', b'{"a": 0x10}',
        b'{"a": 1_000}', b'{"a" 1}', b'{"a": "unterminated}', b'"' + b'\\"' * 400_000, b'{"a": undefined}',
    ),
)  # fmt: skip

# --- 105: deeper than it may go; more values than a body has
raw(
    105,
    "too_deep",
    b"[" * 33,
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}",
    b"[" * DEEP + b"]" * DEEP,
    with_text('"x": ' + "[" * 33 + "]" * 33),
)
raw(105, "too_many_values", b"[" + b"[]," * 300_000 + b"[]]")
content(105, "too_deep", '{"plan": ' + "[" * 40 + "]" * 40 + "}", param="messages.0.content")
content(105, "too_many_values", '{"plan": [' + "1," * 30_000 + "1]}", param="messages.0.content")

# --- 106: numbers that are none
for _number in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 5000, "0." + "1" * 5000):
    raw(106, "invalid_number", with_text(f'"seed": {_number}'))
content(106, "invalid_number", '{"age": NaN}', '{"age": 1e400}', param="messages.0.content")

# --- 108, 109, 114, 118: fields of the engine's, and fields of nobody's
unknown(108, "__proto__", "constructor", "extra_body", "user_config", "lane", "service_tier", "", "Model", "model ")
raw(108, "duplicate_key", with_text('"model": "x"'), with_text('"mod\\u0065l": "x"'))
content(108, "duplicate_key", '{"age": 1, "age": 2}', param="messages.0.content")
field(108, "metadata:lane", "unknown_field", {"task": "progress_note", "purpose": "TREAT", "lane": "stat"})
field(108, "messages:0.name", "unknown_field", [{"role": "user", "content": "{}", "name": "x"}])
field(108, "stream_options:continuous_usage_stats", "unknown_field", {"continuous_usage_stats": True}, stream=True)
unknown(109, "chat_template", "chat_template_kwargs", "documents", "add_generation_prompt", "continue_final_message")
unknown(
    114, "best_of", "use_beam_search", "prompt_logprobs", "functions", "function_call", "echo", "modalities", "audio"
)
unknown(
    118,
    *("cache_salt", "kv_transfer_params", "thinking_token_budget", "priority", "request_id", "vllm_xargs"),
    *("return_token_ids", "min_p", "repetition_penalty", "ignore_eos", "bad_words", "prediction"),
    *(
        "mm_processor_kwargs",
        "skip_special_tokens",
        "add_special_tokens",
        "truncate_prompt_tokens",
        "logits_processors",
    ),
)

# --- 111: what a grammar may not be made from
unknown(111, "guided_json", "guided_regex", "guided_grammar", "structured_outputs", "regex", "grammar")
_DEEP: dict[str, Any] = {"type": "string"}
for _level in range(6):
    _DEEP = {"type": "object", "properties": {"a": _DEEP}}
schema(_DEEP)
schema({"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(128)}})
schema({"$ref": "#"})
schema({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}}})
schema({"type": "object", "properties": {"a": {"enum": [str(number) for number in range(10_000)]}}})
schema({"type": "object", "properties": {"a": {"pattern": "(" * 30_000}}})
schema({"type": "object", "properties": {"a": {"pattern": "(a+)+$"}}})
schema({"type": "object", "title": "(" * 30_000})
schema({"type": "objekt"})
schema({"type": "object", "properties": {"a": {"type": 5}}})
schema({"type": "string"})
schema({"type": "object", "patternProperties": {"^a": {}}})
schema({"type": "object", "properties": {"a" * 65: {}}})
schema({"type": "object", "properties": {"a": {"minLength": 10**9}}})
schema({"$ref": "http://elsewhere/schema.json"})
schema({"$ref": "#/$defs/none"})
schema("x")
field(111, "response_format:type", "out_of_range", {"type": "grammar"}, {"type": "regex"})
field(111, "response_format:json_schema.name", "missing_field", {"type": "json_schema"})
field(111, "response_format:schema", "unknown_field", {"type": "json_object", "schema": {}})

# --- 112: tools
field(112, "tools", "wrong_type", {}, "x", 1)
field(112, "tools", "out_of_range", [TOOL] * 129, [TOOL, TOOL])
field(112, "tools:0", "wrong_type", [1], ["x"], [None])
field(112, "tools:0.function.name", "out_of_range", [{"type": "function", "function": {"name": "look up"}}])
field(112, "tools:0.function.name", "missing_field", [{"type": "function", "function": {}}], [{"type": "function"}])
field(112, "tools:0.type", "out_of_range", [{"type": "retrieval", "function": {"name": "x"}}])
field(112, "tools:0.function.url", "unknown_field", [{"type": "function", "function": {"name": "x", "url": "x"}}])
field(112, "tools:0.function.parameters", "schema_limit", [{"function": {"name": "x", "parameters": {"pattern": "x"}}}])
field(112, "tool_choice", "out_of_range", "look_down", {"type": "function", "function": {"name": "no"}}, tools=[TOOL])
field(112, "tool_choice", "out_of_range", "auto")
field(112, "response_format", "out_of_range", {"type": "json_object"}, tools=[TOOL])

# --- 114: how many guesses the model is asked for
field(114, "logprobs", "wrong_type", 1, "true")
field(114, "top_logprobs", "out_of_range", 6, 10**9, -1, logprobs=True)
field(114, "top_logprobs", "out_of_range", 1)
field(114, "n", "out_of_range", 2, 0)
field(114, "n", "wrong_type", True, 1.0)
field(114, "store", "out_of_range", True)

# --- 115: how to draw
field(115, "temperature", "out_of_range", -0.1, 2.01, "0", True, [], 10**30)
field(115, "top_p", "out_of_range", 0, 1.01, -1, "1")
field(115, "top_k", "out_of_range", -2, 0, 10**9)
field(115, "frequency_penalty", "out_of_range", 2.01, -2.01)
field(115, "presence_penalty", "out_of_range", 2.01, -2.01)
field(115, "seed", "out_of_range", 2**64, -(2**64), 2**63)
field(115, "seed", "wrong_type", 1.5, "1")
field(115, "max_tokens", "out_of_range", 0, -1, 10**9)
field(115, "max_tokens", "wrong_type", "5", 1.5, True)
field(115, "max_completion_tokens", "out_of_range", 0, 10**9)
field(115, "max_tokens", "out_of_range", 5, max_completion_tokens=6)

# --- 117: where to stop
field(117, "stop", "out_of_range", ["x"] * 17, "x" * 257, "\xe9" * 129, "", [""])
field(117, "stop", "wrong_type", [1], {"a": 1}, 1)
unknown(117, "logit_bias")

# --- 120: text that the tokenizer would read as the end of a turn
_SPECIAL = ("<|im_end|>", "<|IM_START|>", "<|endoftext|>", "</s>", "<s>", "[INST]", "<<SYS>>", "<pad>", "<|eot_id|>")
for _token in _SPECIAL:
    content(
        120, "special_token_in_content", json.dumps({**RECORD, "plan": f"rest{_token}"}), param="messages", parsed=True
    )
content(
    120,
    "special_token_in_content",
    json.dumps({"diagnoses": [{"<|im_end|>": 1}]}),
    '{"plan": "<|im\\u005fend|>"}',
    param="messages",
    parsed=True,
)

# --- 123: how to be answered
field(123, "stream", "wrong_type", "true", 1, [])
field(123, "stream_options", "out_of_range", {"include_usage": True}, {})
field(123, "stream_options", "wrong_type", [], stream=True)

# --- the class of the group beyond its sample: every other field, by type and by range
field(103, "messages", "record_required", [], "x", {}, [{"role": "user"}])
content(103, "record_required", "[]", '"x"', "null", param="messages")
content(103, "record_required", "hello", '{"plan": "\\ud800"}', param="messages.0.content")
field(108, "model", "out_of_range", "", "x" * 257, "a\nb")
field(108, "model", "wrong_type", 5, ["x"])
field(108, "metadata", "wrong_type", [], "x")
field(108, "metadata:task", "out_of_range", {"task": "progress note"})
field(108, "metadata:task", "wrong_type", {"task": 7})
field(108, "metadata:data_class", "out_of_range", {"data_class": "secret"})
field(108, "metadata:patient_id", "out_of_range", {"patient_id": "x\n"})
field(108, "user", "out_of_range", "two words", "x" * 129)
field(108, "model", "missing_field", None)
field(108, "messages", "missing_field", None)
field(103, "messages", "wrong_type", "x", 5, {}, metadata=CONVERSATION)
field(103, "messages", "out_of_range", [], [{"role": "user", "content": "x"}] * 257, metadata=CONVERSATION)
field(103, "messages:0", "wrong_type", ["x"], metadata=CONVERSATION)
field(103, "messages:0.role", "out_of_range", [{"role": "root", "content": "x"}], metadata=CONVERSATION)
