"""What becomes of a job after each way an attempt can end, the bounds of a batch, and what was asked as bytes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from inference.policy.ask import Ask, Decimal, Prompt, Sampling, Tool, Turn
from inference.policy.catalog import Feature, Lane
from inference.policy.rules import Rights

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
# What is left of a batch after its lines: its counts, and who handed it in.
BATCH_LIFE = timedelta(days=30)
# How long one turn of forgetting goes on; the next comes in a minute.
FORGET_S = 20.0

# --- files and batches
FILE_LIFE = timedelta(hours=24)
UPLOAD_WITHIN = timedelta(minutes=15)
LARGEST_FILE = 50 * 1024 * 1024
MOST_STORED = 20 * LARGEST_FILE
MOST_UPLOADS = 4
# An upload that kept nothing for so long counts as open no more. Only counted so: a slow one may still end well.
UPLOAD_STALLED = timedelta(seconds=30)
PIECE = 1024 * 1024
LONGEST_LINE = 1024 * 1024
MOST_LINES = 50_000
MOST_UNFINISHED_LINES = 4 * MOST_LINES
WINDOW = timedelta(hours=24)
ENDPOINTS = ("/v1/chat/completions",)
# A message names a slice; its worker begins there and takes so many lines at a time.
SLICE = 256
CLAIM = 64
# A worker hands a batch on after so long: other batches get a turn, and a worker that is asked to stop can.
TURN_S = 90.0
MOST_BURIED = 1000

# --- webhooks: eight tries over about a day
NEWS_WITHIN = timedelta(hours=6)
MOST_TOLD = 4
MOST_TRIES = 8

# The engine's trouble, or ours: worth another attempt.
_AGAIN = frozenset({"engine_timeout", "engine_protocol", "engine_failed", "interrupted", "unknown"})
# Nothing is wrong with the job: worth any number of attempts, a moment later.
_WAITS = {"engine_unavailable": timedelta(seconds=5), "rights_stale": timedelta(seconds=5)}


@dataclass(frozen=True)
class Next:
    """Where a job goes after an attempt."""

    state: str
    code: str = ""
    delay: timedelta = timedelta(0)


def is_failure(outcome: str) -> bool:
    """Whether an attempt that ended so counts against the job. An engine that is away does not: the job waits."""
    return outcome != "ok" and outcome not in _WAITS


def after(outcome: str, *, failures: int, cancel_requested: bool) -> Next:
    """`failures` counts this attempt too when it was one."""
    if outcome == "ok":
        return Next("succeeded")
    if cancel_requested or outcome == "cancelled":
        return Next("cancelled", "cancelled")
    if outcome in _WAITS:
        return Next("queued", delay=_WAITS[outcome])
    if outcome in _AGAIN and failures < MOST_FAILURES:
        return Next("queued", delay=timedelta(seconds=min(30, 2**failures)))
    return Next("failed", outcome)


def payload_name(ref: str) -> bytes:
    """Which row and column a sealed payload belongs to, so that two cannot be swapped."""
    return f"job:{ref}:payload".encode()


def result_name(ref: str) -> bytes:
    return f"job:{ref}:result".encode()


def custom_id_name(ref: str) -> bytes:
    return f"job:{ref}:custom_id".encode()


def piece_name(ref: str, number: int) -> bytes:
    return f"file:{ref}:{number}".encode()


def file_name(ref: str) -> bytes:
    return f"file:{ref}:name".encode()


def metadata_name(ref: str) -> bytes:
    return f"batch:{ref}:metadata".encode()


def rights_name(ref: str, *, of: str = "batch") -> bytes:
    return f"{of}:{ref}:rights".encode()


def secret_name(client: str) -> bytes:
    return f"webhook:{client}:secret".encode()


def tell_again(tries: int) -> timedelta:
    """How long after a try that was not taken the next one comes: 5 s, then four times as long each, at most 8 h."""
    return timedelta(seconds=min(8 * 3600, 5 * 4 ** (tries - 1)))


def line_ref(batch: str, line: int) -> str:
    """A line's own job id: it needs no randomness of its own, and rows that are written together lie together."""
    return f"job_{batch.removeprefix('batch_')[:16]}{line:08x}"


def slice_of(line: int) -> int:
    return (line - 1) // SLICE


@dataclass(frozen=True)
class Line:
    """One line of a batch's file that can be asked."""

    number: int
    custom_id: str = field(repr=False)
    ask: Ask = field(repr=False)


@dataclass(frozen=True)
class BadLine:
    """One that cannot, and why, in words that quote nothing but field names."""

    number: int
    code: str
    message: str = field(repr=False)
    param: str | None = field(default=None, repr=False)
    custom_id: str = field(default="", repr=False)

    @property
    def error(self) -> bytes:
        told = {"code": self.code, "message": self.message, "param": self.param, "line": self.number}
        return json.dumps(told).encode()


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
        "sampling": vars(ask.sampling),  # not asdict: it copies deeply, and batches come in tens of thousands
        "turns": [vars(turn) for turn in ask.turns],
        "prompt": ask.prompt,
        "inputs": list(ask.inputs),
        "schema": ask.schema,
        "tools": [vars(tool) for tool in ask.tools],
        "tool_choice": ask.tool_choice,
    }
    # The model sees the record as its last turn, rendered already.
    record = "null" if prompt.kept is None else prompt.turns[-1].content
    return f'{{"ask": {json.dumps(head)}, "record": {record}}}'.encode()


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


def pack_rights(rights: Rights) -> bytes:
    """Rights as they were, for work that is decided later."""
    return json.dumps({name: sorted(v) if isinstance(v, frozenset) else v for name, v in vars(rights).items()}).encode()


def unpack_rights(packed: bytes) -> Rights:
    found = json.loads(packed)
    sets = {
        name: None if found[name] is None else frozenset(found[name])
        for name in ("models", "tasks", "purposes", "tools")
    }
    features = frozenset(map(Feature, found["features"]))
    return Rights(**{**found, **sets, "features": features, "lane": Lane(found["lane"])})
