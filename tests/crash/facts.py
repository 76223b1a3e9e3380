"""What four witnesses say about a campaign: the clients' ledger, the database, the audit log, the engine's own log.

Decides how each is read. Whether they agree is `checker`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.ledger import Line
from tests.crash.scene import Scene


@dataclass(frozen=True)
class Job:
    """One row of the queue; `batch` is the row of the batch whose line it is."""

    ref: str
    batch: int | None
    key_hash: str | None
    state: str
    code: str
    attempt: int
    has_result: bool


@dataclass(frozen=True)
class Batch:
    """Many jobs that were accepted together."""

    row: int
    ref: str
    key_hash: str
    ended: bool
    total: int


@dataclass
class Facts:
    """Everything, as plain values."""

    ledger: list[Line]
    jobs: Mapping[str, Job]
    batches: Mapping[str, Batch]
    acceptances: Counter[str]  # ref of a job or a batch -> the records of its acceptance
    intents: Counter[str]  # request id -> its intents
    outcomes: Mapping[str, list[str]]  # request id -> its outcomes
    shards: Mapping[int, tuple[int, int, int]]  # shard -> records, lowest and highest number
    ledger_counter: tuple[int, int]  # the ledger shard, and the number it counted to
    began: Counter[str]  # request id -> how often the engine was asked
    finished: Counter[str]
    attempts_at: list[float] = field(default_factory=list)  # when the engine was asked for each job
    texts: dict[str, str] = field(default_factory=dict)  # the mark of a prompt -> the text its client was given
    verdict: Mapping[str, Any] = field(default_factory=dict)  # verify_audit's report


def key_hash(mark: str) -> str:
    """What the queue keeps of an idempotency key."""
    return hashlib.sha256(mark.encode()).hexdigest()


def collect(scene: Scene, ledger: list[Line], engine_log: Path) -> Facts:
    """Read the database in one view, and the two files."""
    with scene.database() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        jobs = connection.execute(
            "SELECT ref, batch_id, idempotency_hash, state, code, attempt, result IS NOT NULL FROM queue_job"
        ).fetchall()
        batches = connection.execute(
            "SELECT id, ref, idempotency_hash, finished IS NOT NULL, total FROM queue_batch"
        ).fetchall()
        accepted = connection.execute(
            "SELECT target FROM audit_record WHERE action IN ('job.accepted', 'batch.accepted')"
        ).fetchall()
        pairs = connection.execute(
            "SELECT request_id, kind, outcome FROM audit_record WHERE kind IN ('intent', 'outcome')"
        ).fetchall()
        shards = connection.execute(
            "SELECT shard, count(*), min(seq), max(seq) FROM audit_record GROUP BY 1"
        ).fetchall()
        counter = connection.execute("SELECT id, last_seq FROM audit_shard WHERE writer = 'ledger'").fetchone()
    outcomes: dict[str, list[str]] = {}
    for request_id, kind, outcome in pairs:
        if kind == "outcome":
            outcomes.setdefault(request_id, []).append(outcome)
    notes = [json.loads(line) for line in engine_log.read_text(encoding="utf-8").splitlines()]
    return Facts(
        ledger=ledger,
        jobs={row[0]: Job(*row) for row in jobs},
        batches={row[1]: Batch(*row) for row in batches},
        acceptances=Counter(target for (target,) in accepted),
        intents=Counter(request_id for request_id, kind, _ in pairs if kind == "intent"),
        outcomes=outcomes,
        shards={shard: (count, low, high) for shard, count, low, high in shards},
        ledger_counter=(counter[0], counter[1]) if counter else (0, 0),
        began=Counter(note["id"] for note in notes if note["what"] == "began"),
        finished=Counter(note["id"] for note in notes if note["what"] == "finished"),
        attempts_at=[note["at"] for note in notes if note["what"] == "began" and note["id"].startswith("job_")],
    )
