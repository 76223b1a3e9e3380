"""Tools as the model sees them: named in the instruction, answered in one JSON envelope. Pure.

The engine runs without a tool parser (SECURITY.md 5.1 leaves that off until one is qualified), so a call is an answer
whose JSON the engine is held to by grammar: `{"tool": ..., "arguments": {...}}`, or `{"answer": ...}` where the model
may also just answer. The appliance calls nothing; the caller does, or does not (S0-4).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference.policy.ask import Ask, Tool, Turn

AUTO, REQUIRED, NONE = "auto", "required", "none"


@dataclass(frozen=True)
class Call:
    """A function the model wants called, with its arguments as JSON text."""

    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What an envelope held: a call, or an answer in words."""

    call: Call | None = None
    text: str = field(default="", repr=False)


def offered(tools: Sequence[Tool], choice: str) -> tuple[Tool, ...]:
    """The tools the model may choose from now."""
    if choice == NONE:
        return ()
    return tuple(tools) if choice in {AUTO, REQUIRED} else tuple(tool for tool in tools if tool.name == choice)


def offer(turns: tuple[Turn, ...], tools: Sequence[Tool], choice: str) -> tuple[Turn, ...]:
    """The turns, with the tools named in a system turn at the beginning."""
    usable = offered(tools, choice)
    if not usable:
        return turns
    listed = json.dumps(
        [{"tool": tool.name, "description": tool.description, "arguments": tool.parameters} for tool in usable],
        ensure_ascii=False,
    )
    how = 'Answer with JSON only: {"tool": name, "arguments": {...}} to have one called'
    how += ', or {"answer": "..."} to answer in words.' if choice == AUTO else "."
    text = f"These functions can be called: {listed}\n{how}"
    if turns and turns[0].role == "system":
        return (Turn("system", f"{turns[0].content}\n\n{text}"), *turns[1:])
    return (Turn("system", text), *turns)


def shape(ask: Ask) -> Mapping[str, Any] | None:
    """The envelope's JSON Schema; None when no tool may be called."""
    usable = offered(ask.tools, ask.tool_choice)
    if not usable:
        return None
    kinds: list[dict[str, Any]] = [
        _object({"tool": {"const": tool.name}, "arguments": dict(tool.parameters)}) for tool in usable
    ]
    if ask.tool_choice == AUTO:
        kinds.append(_object({"answer": {"type": "string"}}))
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def read(text: str) -> Answer:
    """Open an envelope; a text that is none is an answer in words: a grammar that was cut short names no call."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return Answer(text=text)
    if isinstance(body, dict) and isinstance(body.get("tool"), str) and isinstance(body.get("arguments"), dict):
        return Answer(call=Call(body["tool"], json.dumps(body["arguments"], ensure_ascii=False)))
    if isinstance(body, dict) and isinstance(body.get("answer"), str):
        return Answer(text=body["answer"])
    return Answer(text=text)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
