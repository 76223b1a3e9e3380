"""What stands in `messages`: one record for a task, or the turns of a conversation.

Calls and results of tools become plain turns, so that every approved chat template renders them and no template needs
to know of tools. Text only: pictures, files and sound have no place in a chat body.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inference.api import document
from inference.api.errors import BadRequestError
from inference.api.fields import Fields
from inference.policy.ask import Turn

MOST_TURNS = 256
MOST_CALLS = 128
LONGEST_TURN = 400_000
_NOTHING = ("refusal", "audio", "function_call", "annotations")
ROLES = ("system", "developer", "user", "assistant", "tool")
PARTS = ("text", "input_text", "output_text")


def record(messages: Any, param: str) -> Mapping[str, Any]:
    """The record: the content of the one user message, as JSON, under the same limits as the body."""
    if not isinstance(messages, list) or len(messages) != 1:
        raise _no_record(param)
    message = Fields(messages[0], f"{param}.0.")
    role, content = message.take("role"), message.take("content")
    message.end()
    if role != "user" or not isinstance(content, str):
        raise _no_record(param)
    try:
        found = document.parse(content.encode())
    except BadRequestError as error:
        code = "record_required" if error.code == "invalid_json" else error.code
        raise BadRequestError(code, f"in the record: {error.message}", param=f"{param}.0.content") from None
    if not isinstance(found, dict):
        raise _no_record(param)
    return found


def conversation(messages: Any, param: str) -> tuple[Turn, ...]:
    """The turns, in order; at least one, and one of the user's among them."""
    if not isinstance(messages, list):
        raise BadRequestError("wrong_type", f"{param} must be a list", param=param)
    if not 0 < len(messages) <= MOST_TURNS:
        raise BadRequestError("out_of_range", f"{param} holds 1 to {MOST_TURNS} messages", param=param)
    called: dict[str, str] = {}
    found = tuple(_turn(Fields(item, f"{param}.{number}."), called) for number, item in enumerate(messages))
    if not any(turn.role == "user" for turn in found):
        raise BadRequestError("out_of_range", f"{param} holds no message of the user's", param=param)
    return found


def _turn(message: Fields, called: dict[str, str]) -> Turn:
    role = message.choice("role", ROLES)
    if not role:
        raise BadRequestError("missing_field", f"{message.path('role')} is required", param=message.path("role"))
    text = _content(message)
    if role == "assistant":
        text = _calls(message, called) or text
        for name in _NOTHING:
            if message.take(name) not in (None, []):
                raise message.range(name, "empty")
    elif role == "tool":
        name = called.get(message.token("tool_call_id", required=True), "")
        if not name:
            raise message.range("tool_call_id", "the id of a call before it")
        role, text = "user", f"Result of {name}: {text}"
    message.end()
    return Turn("system" if role == "developer" else role, text)


def _content(message: Fields) -> str:
    value = message.take("content")
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) else _parts(value, message)
    text = "".join(parts)
    if len(text) > LONGEST_TURN:
        raise message.range("content", f"at most {LONGEST_TURN} characters")
    return text


def _parts(value: Any, message: Fields) -> list[str]:
    if not isinstance(value, list) or len(value) > MOST_TURNS:
        raise message.wrong("content", "a text or a list of texts")
    texts = []
    for number, item in enumerate(value):
        part = Fields(item, f"{message.path('content')}.{number}.")
        part.choice("type", PARTS)
        texts.append(part.prose("text", LONGEST_TURN, required=True))
        part.end()
    return texts


def _calls(message: Fields, called: dict[str, str]) -> str:
    """A call as the model wrote it: the same envelope that it is held to when it makes one."""
    lines = []
    for number, item in enumerate(message.items("tool_calls", MOST_CALLS)):
        call = Fields(item, f"{message.path('tool_calls')}.{number}.")
        call.choice("type", ("function",))
        call_id = call.token("id", required=True)
        function = call.object("function")
        name = function.identifier("name")
        arguments = function.prose("arguments", LONGEST_TURN)
        function.end()
        call.end()
        called[call_id] = name
        lines.append(f'{{"tool": {json.dumps(name)}, "arguments": {arguments or "{}"}}}')
    return "\n".join(lines)


def _no_record(param: str) -> BadRequestError:
    return BadRequestError(
        "record_required", f"{param} must be one user message whose content is a JSON object: the record", param=param
    )
