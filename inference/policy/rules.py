"""Who may ask what, and how little of it the model may see. Pure: values in, verdict out.

- Rights are the client's tasks and purposes; a request must name one of each, and both must be granted.
- Data without a label is PHI.
- A record is cut to the task's fields before anything else sees it; the names of what was dropped are kept, never
  the values.
- Numbers keep the spelling the client sent: 1.20 is not 1.2 on a lab report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from inference.policy.catalog import PURPOSES, TASKS, DataClass, Lane, Task
from inference.policy.errors import PolicyRefusal

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MOST_NAMES = 32
_SPECIAL = re.compile(r"<\|[^|<>\s]{1,64}\|>|</?s>|<(?:pad|unk|bos|eos)>|\[/?INST\]|<</?SYS>>", re.IGNORECASE)


class Decimal(float):
    """A number with a point or an exponent, and the very characters the client wrote it with."""

    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type[Decimal], tuple[str]]:
        return (Decimal, (self.text,))


@dataclass(frozen=True)
class Rights:
    """What a key may do, as of the last snapshot: the client's grants, through this key."""

    client: str
    key_id: str
    tasks: frozenset[str]
    purposes: frozenset[str]
    lane: Lane
    phi: bool


@dataclass(frozen=True)
class Sampling:
    """How the model is to draw. None means: the engine's own default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ask:
    """A request after the door has parsed it: nothing in it is untyped or unbounded, nothing is decided yet."""

    model: str
    record: Mapping[str, Any] = field(repr=False)
    task: str
    purpose: str
    data_class: str = ""
    patient_id: str = field(default="", repr=False)
    end_user: str = ""
    sampling: Sampling = Sampling()
    dropped: tuple[str, ...] = ()
    """What was cut from the record already, when it was accepted to be answered later."""


@dataclass(frozen=True)
class Decision:
    """Allowed, and as what."""

    task: Task
    purpose: str
    data_class: DataClass
    lane: Lane


@dataclass(frozen=True)
class Minimized:
    """What is left for the model, as text, and the names of what was not."""

    instruction: str
    kept: Mapping[str, Any] = field(repr=False)
    text: str = field(repr=False)
    dropped: tuple[str, ...]


def decide(ask: Ask, rights: Rights) -> Decision:
    """The decision, or a PolicyRefusal whose code says what is missing."""
    if not ask.purpose:
        raise PolicyRefusal("purpose_required", "metadata.purpose must name why you ask", param="metadata.purpose")
    if ask.purpose not in PURPOSES:
        raise PolicyRefusal(
            "purpose_unknown", f"metadata.purpose is one of {', '.join(PURPOSES)}", param="metadata.purpose"
        )
    if not ask.task:
        raise PolicyRefusal("task_required", "metadata.task must name a registered task", param="metadata.task")
    task = TASKS.get(ask.task)
    if task is None:
        raise PolicyRefusal("task_unknown", f"metadata.task is one of {', '.join(TASKS)}", param="metadata.task")
    if ask.purpose not in rights.purposes:
        raise PolicyRefusal("purpose_not_granted", "this key is not granted that purpose", param="metadata.purpose")
    if task.id not in rights.tasks:
        raise PolicyRefusal("task_not_granted", "this key is not granted that task", param="metadata.task")
    data_class = DataClass(ask.data_class or DataClass.PHI)
    if ask.patient_id and data_class is not DataClass.PHI:
        raise PolicyRefusal("data_class_conflict", "a record of a patient is PHI", param="metadata.data_class")
    if data_class is DataClass.PHI and not rights.phi:
        raise PolicyRefusal(
            "phi_not_granted", "this key may not send PHI; unlabelled data is PHI", param="metadata.data_class"
        )
    return Decision(task=task, purpose=ask.purpose, data_class=data_class, lane=rights.lane)


def minimize(record: Mapping[str, Any], task: Task, *, already: tuple[str, ...] = ()) -> Minimized:
    """Keep the task's fields, in the task's order; PolicyRefusal when nothing is left or it could pose as a turn."""
    kept = {name: record[name] for name in task.fields if name in record}
    if not kept:
        raise PolicyRefusal("record_empty", f"the record holds none of: {', '.join(task.fields)}", param="messages")
    text = render(kept)
    # T39: text that the tokenizer reads as a control token could end the user's turn and forge ours.
    if _SPECIAL.search(text):
        raise PolicyRefusal(
            "special_token_in_content", "the record holds a control token of the model; remove it", param="messages"
        )
    dropped = (*already, *dropped_names(record, task))
    return Minimized(instruction=task.instruction, kept=kept, text=text, dropped=dropped)


def dropped_names(record: Mapping[str, Any], task: Task) -> tuple[str, ...]:
    """The names that were left out, fit for the log.

    A key is the caller's text too: only a plain identifier is named, anything else is counted.
    """
    extra = [name for name in record if name not in task.fields]
    named = sorted(name for name in extra if _NAME.fullmatch(name))[:_MOST_NAMES]
    unnamed = len(extra) - len(named)
    return (*named, f"({unnamed} unnamed)") if unnamed else tuple(named)


def render(value: Any) -> str:
    """JSON as `json.dumps(value, ensure_ascii=False)` writes it, but for numbers: those as the client wrote them."""
    if isinstance(value, Decimal):
        return value.text
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {render(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(render(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
