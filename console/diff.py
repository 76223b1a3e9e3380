"""What would be different: a proposed change's facts against those of what runs now; pure.

- Every fact is a row, changed or not: an approver signs all of them.
- Lists and mappings are compared line by line, so that one added launch argument stands out among twenty.
- A fact we have no words for is shown under its own name; nothing is left out for want of a label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LABELS = {
    "release": "Release digest",
    "bundle": "Model",
    "version": "Version",
    "files": "Files",
    "engine": "Engine",
    "arguments": "Launch arguments",
    "environment": "Environment",
    "served_model_name": "Served as",
    "routes": "Tasks it will answer",
    "capabilities": "What it can be asked for",
    "evaluation": "Evaluation report",
    "slot_rule": "Slots",
    "fault": "Kind of fault",
    "was": "What is done now",
    "action": "What will be done",
}
_ORDER = tuple(LABELS)
_FEW_LINES = 3


@dataclass(frozen=True)
class Line:
    """One line of a fact; `mark` says whether the other side has it."""

    text: str
    changed: bool


@dataclass(frozen=True)
class Row:
    """One fact, now and after."""

    label: str
    was: tuple[Line, ...]
    will: tuple[Line, ...]
    changed: bool
    mono: bool

    @property
    def long(self) -> bool:
        """Whether the lines are folded away while nothing in them changes."""
        return len(self.will) > _FEW_LINES and not self.changed

    @property
    def kept(self) -> int:
        """How many lines stay the same."""
        return sum(1 for line in self.will if not line.changed)


def rows(now: Mapping[str, Any] | None, after: Mapping[str, Any]) -> tuple[Row, ...]:
    """Every fact of the proposal beside what runs now; nothing runs now when `now` is None."""
    keys = sorted(
        set(after) | set(now or {}), key=lambda key: (_ORDER.index(key) if key in _ORDER else len(_ORDER), key)
    )
    return tuple(_row(key, (now or {}).get(key), after.get(key)) for key in keys)


def _row(key: str, was: Any, will: Any) -> Row:
    before, later = lines(key, was), lines(key, will)
    return Row(
        label=LABELS.get(key, key),
        was=tuple(Line(text, text not in later) for text in before),
        will=tuple(Line(text, text not in before) for text in later),
        changed=was != will,
        mono=key not in {"bundle", "version", "slot_rule"},
    )


def lines(key: str, value: Any) -> tuple[str, ...]:
    """A fact as lines of text; the whole of it, in a fixed order."""
    if value is None:
        return ()
    if key == "files" and isinstance(value, Mapping):
        return tuple(
            f"{path}  {fact['sha256'][:12]}  {fact['length']:,} B".replace(",", "\u202f")
            for path, fact in sorted(value.items())
        )
    if key == "arguments" and isinstance(value, Sequence) and not isinstance(value, str):
        return _arguments([str(item) for item in value])
    if isinstance(value, Mapping):
        return tuple(f"{name}: {_plain(item)}" for name, item in sorted(value.items()))
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return (_plain(value),)


def _arguments(words: Sequence[str]) -> tuple[str, ...]:
    """One option to a line, with its value beside it."""
    joined: list[str] = []
    for word in words:
        if word.startswith("-") or not joined:
            joined.append(word)
        else:
            joined[-1] += f" {word}"
    return tuple(joined)


def _plain(value: Any) -> str:
    if value == "":
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
