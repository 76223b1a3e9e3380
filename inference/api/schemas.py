"""What a body may hold, field by field: an allow-list at every depth. A field that is not here is a 400 that names it.

Decides shapes, types and bounds. Whether the request is allowed is `inference.policy`. No value of the caller's is
ever quoted in a refusal, only the name of the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inference.api import document
from inference.api.errors import BadRequestError
from inference.policy.catalog import DataClass
from inference.policy.rules import Ask, Sampling

MOST_TOKENS = 32_768
_TOKEN = re.compile(r"[A-Za-z0-9._:@/+-]{1,128}")
_FIELD_NAME = re.compile(r"[\x21-\x7e]{1,64}")
_SEED = 2**63


@dataclass(frozen=True)
class ChatRequest:
    """A parsed chat body: what is asked, and how the caller wants to be answered."""

    ask: Ask
    stream: bool = False
    include_usage: bool = False


def chat(value: Any, *, within: str = "") -> ChatRequest:
    """`POST /v1/chat/completions`."""
    fields = _Fields(value, within)
    sampling = Sampling(
        max_tokens=_max_tokens(fields),
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1, above_low=True),
        seed=fields.integer("seed", -_SEED, _SEED - 1),
        stop=_stop(fields),
    )
    model = fields.text("model", required=True)
    end_user = fields.token("user")
    fields.integer("n", 1, 1)
    stream = fields.flag("stream")
    include_usage = _stream_options(fields, stream=stream)
    metadata = fields.take("metadata")
    labels = _Fields({} if metadata is None else metadata, f"{within}metadata.")
    ask = Ask(
        model=model,
        record=_record(fields.take("messages"), f"{within}messages"),
        task=labels.token("task"),
        purpose=labels.token("purpose"),
        patient_id=labels.text("patient_id"),
        data_class=labels.choice("data_class", tuple(DataClass)),
        end_user=end_user,
        sampling=sampling,
    )
    labels.end()
    fields.end()
    return ChatRequest(ask=ask, stream=stream, include_usage=include_usage)


def job(value: Any) -> Ask:
    """`POST /v1/jobs`: a chat body that nobody waits for."""
    fields = _Fields(value, "")
    request = chat(fields.take("request"), within="request.")
    fields.end()
    if request.stream:
        raise BadRequestError("out_of_range", "a job is not streamed", param="request.stream")
    return request.ask


class _Fields:
    """The fields of one object. Each is taken once, by name and type; `end` refuses what was not taken."""

    def __init__(self, value: Any, within: str) -> None:
        if not isinstance(value, dict):
            where = within.rstrip(".") or None
            raise BadRequestError("wrong_type" if where else "invalid_json", "an object is required here", param=where)
        self._left = dict(value)
        self._within = within

    def take(self, name: str) -> Any:
        return self._left.pop(name, None)

    def end(self) -> None:
        for name in self._left:
            shown = name if _FIELD_NAME.fullmatch(name) else "?"
            raise BadRequestError(
                "unknown_field", f"unknown field: {self._within}{shown}", param=f"{self._within}{shown}"
            )

    def text(self, name: str, *, required: bool = False) -> str:
        return self._checked(name, "", required=required, fits=lambda v: 0 < len(v) <= 256 and v.isprintable())

    def token(self, name: str) -> str:
        return self._checked(name, "", fits=lambda v: _TOKEN.fullmatch(v) is not None)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        return self._checked(name, "", fits=lambda v: v in choices)

    def flag(self, name: str) -> bool:
        value = self.take(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        # bool is an int to Python, and `"max_tokens": true` is a mistake to us.
        if type(value) is not int:
            raise self._wrong(name, "a whole number")
        if not low <= value <= high:
            raise self._range(name, f"from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float, *, above_low: bool = False) -> float | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, "a number")
        if not low <= value <= high or (above_low and value == low):
            raise self._range(name, f"from {low} to {high}")
        return float(value)

    def _checked(self, name: str, default: str, *, fits: Callable[[str], bool], required: bool = False) -> str:
        value = self.take(name)
        if value is None and not required:
            return default
        if value is None:
            raise BadRequestError("missing_field", f"{self._within}{name} is required", param=f"{self._within}{name}")
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        if not fits(value):
            raise self._range(name, "a short plain text of the documented form")
        return value

    def _wrong(self, name: str, kind: str) -> BadRequestError:
        param = f"{self._within}{name}"
        return BadRequestError("wrong_type", f"{param} must be {kind}", param=param)

    def _range(self, name: str, kind: str) -> BadRequestError:
        param = f"{self._within}{name}"
        return BadRequestError("out_of_range", f"{param} must be {kind}", param=param)


def _max_tokens(fields: _Fields) -> int | None:
    """OpenAI has an old and a new name for it; both at once could disagree."""
    old = fields.integer("max_tokens", 1, MOST_TOKENS)
    new = fields.integer("max_completion_tokens", 1, MOST_TOKENS)
    if old is not None and new is not None:
        raise BadRequestError("out_of_range", "name max_tokens or max_completion_tokens, not both", param="max_tokens")
    return new if old is None else old


def _stop(fields: _Fields) -> tuple[str, ...]:
    value = fields.take("stop")
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequestError("wrong_type", "stop must be a text or a list of texts", param="stop")
    if len(texts) > 16 or not all(0 < len(text.encode()) <= 256 for text in texts):
        raise BadRequestError("out_of_range", "stop holds at most 16 texts of 1 to 256 bytes", param="stop")
    return tuple(texts)


def _stream_options(fields: _Fields, *, stream: bool) -> bool:
    value = fields.take("stream_options")
    if value is None:
        return False
    if not stream:
        raise BadRequestError("out_of_range", "stream_options goes with stream: true", param="stream_options")
    options = _Fields(value, "stream_options.")
    include_usage = options.flag("include_usage")
    options.end()
    return include_usage


def _record(messages: Any, param: str) -> Mapping[str, Any]:
    """The record: the content of the one user message, as JSON, under the same limits as the body."""
    if messages is None:
        raise BadRequestError("missing_field", f"{param} is required", param=param)
    if not isinstance(messages, list) or len(messages) != 1:
        raise _no_record(param)
    message = _Fields(messages[0], f"{param}.0.")
    role, content = message.take("role"), message.take("content")
    message.end()
    if role != "user" or not isinstance(content, str):
        raise _no_record(param)
    try:
        record = document.parse(content.encode())
    except BadRequestError as error:
        code = "record_required" if error.code == "invalid_json" else error.code
        raise BadRequestError(code, f"in the record: {error.message}", param=f"{param}.0.content") from None
    if not isinstance(record, dict):
        raise _no_record(param)
    return record


def _no_record(param: str) -> BadRequestError:
    return BadRequestError(
        "record_required", f"{param} must be one user message whose content is a JSON object: the record", param=param
    )
