"""What stands in `input` of a Responses body, as the messages of a chat body: text, calls, and what they gave back."""

from __future__ import annotations

from typing import Any

from inference.api.errors import BadRequestError
from inference.api.fields import Fields
from inference.api.turns import LONGEST_TURN, MOST_TURNS

_STATUS = ("in_progress", "completed", "incomplete")


def messages(value: Any) -> list[dict[str, Any]]:
    """The messages, whose roles and lengths are judged as those of a chat (`turns`)."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise BadRequestError("wrong_type", "input must be a text or a list of items", param="input")
    if not 0 < len(value) <= MOST_TURNS:
        raise BadRequestError("out_of_range", f"input holds 1 to {MOST_TURNS} items", param="input")
    return [_message(Fields(item, f"input.{number}.")) for number, item in enumerate(value)]


def _message(item: Fields) -> dict[str, Any]:
    kind = item.choice("type", ("message", "function_call", "function_call_output")) or "message"
    # An item that we gave comes back with its id and state; neither changes anything.
    item.token("id")
    item.choice("status", _STATUS)
    if kind == "function_call":
        function = {"name": item.identifier("name"), "arguments": item.prose("arguments", LONGEST_TURN, required=True)}
        call = {"id": item.token("call_id", required=True), "type": "function", "function": function}
        found = {"role": "assistant", "tool_calls": [call]}
    elif kind == "function_call_output":
        found = {"role": "tool", "tool_call_id": item.token("call_id", required=True), "content": _text(item, "output")}
    else:
        found = {"role": item.required("role"), "content": _text(item, "content")}
        if found["role"] == "tool":
            raise item.range("role", "user, assistant, system or developer")
    item.end()
    return found


def _text(item: Fields, name: str) -> str:
    """A text, or a list of texts; pictures, files and sound are not taken."""
    value = item.required(name)
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not 0 < len(value) <= MOST_TURNS:
        raise item.wrong(name, "a text or a list of texts")
    texts = []
    for number, part in enumerate(value):
        given = Fields(part, f"{item.path(name)}.{number}.")
        given.choice("type", ("input_text", "output_text"))
        texts.append(given.prose("text", LONGEST_TURN, required=True))
        given.items("annotations", 0)
        given.items("logprobs", 0)
        given.end()
    return "".join(texts)
