"""What becomes of a job after each way an attempt can end, and the sealed form of what was asked. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from inference.policy.ask import Ask, Decimal, Prompt, Sampling, Tool, Turn
from inference.policy.rules import render

LEASE = timedelta(seconds=15)
RENEW_S = 4.0
RING_AGAIN = timedelta(seconds=10)
MOST_RUNG = 50
MOST_FAILURES = 5
MOST_UNFINISHED = 10_000
# Longer than a generation may take (engines.vllm.Limits.total_s) and its outcome may wait for the database.
UNANSWERED_AFTER = timedelta(minutes=20)
UNANSWERED_WITHIN = timedelta(days=30)
RESULT_LIFE = timedelta(hours=24)

# The engine's trouble, or ours: worth another attempt.
_AGAIN = frozenset(
    {"engine_unavailable", "engine_timeout", "engine_protocol", "engine_failed", "interrupted", "unknown"}
)


@dataclass(frozen=True)
class Next:
    """Where a job goes after an attempt."""

    state: str
    code: str = ""
    delay: timedelta = timedelta(0)


def after(outcome: str, *, failures: int, cancel_requested: bool) -> Next:
    """`failures` counts this attempt too when it was one."""
    if outcome == "ok":
        return Next("succeeded")
    if cancel_requested or outcome == "cancelled":
        return Next("cancelled", "cancelled")
    if outcome in _AGAIN and failures < MOST_FAILURES:
        return Next("queued", delay=timedelta(seconds=min(30, 2**failures)))
    return Next("failed", outcome)


def payload_name(ref: str) -> bytes:
    """Which row and column a sealed payload belongs to, so that two cannot be swapped."""
    return f"job:{ref}:payload".encode()


def result_name(ref: str) -> bytes:
    return f"job:{ref}:result".encode()


def pack(ask: Ask, prompt: Prompt) -> bytes:
    """What a worker needs, and no more of the record than the task allows."""
    head = {
        "model": ask.model,
        "task": ask.task,
        "purpose": ask.purpose,
        "data_class": ask.data_class,
        "patient_id": ask.patient_id,
        "end_user": ask.end_user,
        "dropped": list(prompt.dropped),
        "sampling": asdict(ask.sampling),
        "turns": [asdict(turn) for turn in ask.turns],
        "prompt": ask.prompt,
        "inputs": list(ask.inputs),
        "schema": ask.schema,
        "tools": [asdict(tool) for tool in ask.tools],
        "tool_choice": ask.tool_choice,
    }
    return f'{{"ask": {json.dumps(head, sort_keys=True)}, "record": {render(prompt.kept)}}}'.encode()


def unpack(payload: bytes) -> Ask:
    """The ask as it was, numbers spelled as the client wrote them."""
    whole: Mapping[str, Any] = json.loads(payload, parse_float=Decimal)
    head = dict(whole["ask"])
    sampling: dict[str, Any] = head.pop("sampling")
    for name, value in sampling.items():
        sampling[name] = float(value) if isinstance(value, Decimal) else value
    sampling["stop"] = tuple(sampling["stop"])
    return Ask(
        record=whole["record"],
        sampling=Sampling(**sampling),
        dropped=tuple(head.pop("dropped")),
        turns=tuple(Turn(**turn) for turn in head.pop("turns")),
        inputs=tuple(head.pop("inputs")),
        tools=tuple(Tool(**tool) for tool in head.pop("tools")),
        **head,
    )
