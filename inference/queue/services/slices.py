"""A worker's hold on the lines of a batch: taken, kept, recorded and given back set by set.

Everything here is under the same fence as a job that stands alone: the row's attempt, its worker, its lease. What
differs is the size of a step: one statement moves a group of lines, one COPY writes their records, one commit makes
both durable. A line that is not ours any more is left out of both, and its worker is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.entry import Entry, Position
from appliance.audit.services import OwnShard, unaudited
from appliance.keyring import services as keyring
from appliance.keyring.errors import SealBrokenError
from inference.policy.ask import Ask
from inference.policy.rules import Rights
from inference.queue import rules
from inference.queue.models import Batch, Job

_CLAIM = """
    WITH mine AS (
        SELECT j.id FROM queue_job j
        WHERE j.batch_id = (SELECT b.id FROM queue_batch b WHERE b.ref = %(batch)s AND b.state = 'in_progress')
            AND j.line > %(after)s AND j.state = 'queued' AND j.not_before <= %(now)s
            AND NOT EXISTS (SELECT FROM queue_pause WHERE lane = 'batch')
        ORDER BY j.batch_id, j.line LIMIT %(most)s FOR UPDATE SKIP LOCKED
    )
    UPDATE queue_job j SET state = 'running', attempt = attempt + 1, worker = %(worker)s,
        lease_until = %(lease)s, started = %(now)s
    FROM mine WHERE j.id = mine.id
    RETURNING j.id, j.ref, j.line, j.attempt, j.failures, j.key_id, j.payload
"""
# Rows that were copied a moment ago have no statistics yet: left to itself, PostgreSQL sorts the whole batch per claim.
_IN_ORDER = "SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)"
# By primary key and in its order: two statements that lock many rows must not meet head-on.
_LOCKED = """
    WITH mine AS MATERIALIZED (
        SELECT j.id, j.attempt, j.worker, j.state, j.intent_open FROM queue_job j
        WHERE j.id = ANY(%(ids)s::bigint[]) ORDER BY j.id FOR UPDATE
    )
"""
_OURS = "j.id = mine.id AND mine.id = v.id AND mine.attempt = v.attempt AND mine.worker = %(worker)s AND mine.state = 'running'"
_OPEN = f"""{_LOCKED}
    UPDATE queue_job j SET intent_open = true
    FROM mine, unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS v(id, attempt)
    WHERE {_OURS} AND NOT mine.intent_open
    RETURNING j.id
"""  # noqa: S608 - put together from words of this file
_CLOSE = f"""{_LOCKED}
    UPDATE queue_job j SET state = v.state, code = v.code, failures = v.failures, intent_open = false,
        lease_until = NULL, worker = '', result = v.result,
        payload = CASE WHEN v.state = 'queued' THEN j.payload END,
        finished = CASE WHEN v.state <> 'queued' THEN %(now)s::timestamptz END,
        not_before = %(now)s::timestamptz + v.delay * interval '1 second'
    FROM mine, unnest(%(ids)s::bigint[], %(attempts)s::int[], %(opened)s::bool[], %(states)s::text[], %(codes)s::text[],
        %(failures)s::int[], %(delays)s::float[], %(results)s::bytea[])
        AS v(id, attempt, opened, state, code, failures, delay, result)
    WHERE {_OURS} AND mine.intent_open = v.opened
    RETURNING j.id
"""  # noqa: S608 - put together from words of this file
_BACK = f"""{_LOCKED}
    UPDATE queue_job j SET state = 'queued', lease_until = NULL, worker = '', not_before = %(until)s
    FROM mine, unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS v(id, attempt)
    WHERE {_OURS} AND NOT mine.intent_open
"""  # noqa: S608 - put together from words of this file
# A row that is being settled in this moment is not waited for: it has time until the next renewal.
_RENEW = """
    UPDATE queue_job SET lease_until = %(lease)s WHERE id IN (
        SELECT id FROM queue_job WHERE id = ANY(%(ids)s::bigint[]) FOR UPDATE SKIP LOCKED
    )
"""


@dataclass(frozen=True)
class Held:
    """One attempt at one line. `ask` is None when its payload does not open: that line can only fail."""

    id: int
    ref: str
    line: int
    attempt: int
    failures: int
    key_id: str
    ask: Ask | None = field(repr=False)
    accepted: Rights | None = None
    """What the batch was accepted with; None when that does not open."""

    @property
    def request_id(self) -> str:
        return f"{self.ref}.{self.attempt}"


@dataclass(frozen=True)
class Step:
    """One record about a line, and what it does to the row: an intent opens the attempt, anything else ends it."""

    held: Held
    entry: Entry
    cancelled: bool = False
    result: bytes = field(default=b"", repr=False)

    @property
    def opens(self) -> bool:
        return self.entry.kind == "intent"


@dataclass(frozen=True)
class Kept:
    """Which of the lines are still ours, which of those are to be cancelled, and whether the whole batch is to stop."""

    ids: frozenset[int]
    cancelled: frozenset[int]
    stop: bool


@unaudited("worker bookkeeping; each attempt's intent and outcome are recorded")
def claim_lines(*, worker: str, batch: str, after: int, most: int) -> list[Held]:
    """Take the next lines that wait and nobody else has."""
    now = timezone.now()
    given: dict[str, Any] = {
        "batch": batch,
        "after": after,
        "now": now,
        "most": most,
        "worker": worker,
        "lease": now + rules.LEASE,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_IN_ORDER)
        cursor.execute(_CLAIM, given)
        rows = cursor.fetchall()
    accepted = _accepted(batch) if rows else None
    held = [
        Held(pk, ref, line, attempt, failures, key_id, ask=_opened(ref, payload), accepted=accepted)
        for pk, ref, line, attempt, failures, key_id, payload in rows
    ]
    return sorted(held, key=lambda each: each.line)


def _accepted(batch: str) -> Rights | None:
    sealed = Batch.objects.filter(ref=batch).values_list("rights", flat=True).first()
    try:
        return rules.unpack_rights(keyring.open_(bytes(sealed or b""), aad=rules.rights_name(batch)))
    except SealBrokenError:
        return None


def _opened(ref: str, payload: memoryview) -> Ask | None:
    try:
        return rules.unpack(keyring.open_(bytes(payload), aad=rules.payload_name(ref)))
    except SealBrokenError:
        return None  # one row that was tampered with must not stop the others


@unaudited("worker bookkeeping; each attempt's intent and outcome are recorded")
def renew_lines(*, worker: str, batch: str) -> Kept:
    """Keep the leases of everything this worker holds of the batch, and the batch from being rung for again."""
    now = timezone.now()
    rows = dict(
        Job.objects.filter(batch__ref=batch, worker=worker, state=Job.State.RUNNING).values_list(
            "id", "cancel_requested"
        )
    )
    with connection.cursor() as cursor:
        cursor.execute(_RENEW, {"lease": now + rules.LEASE, "ids": _array(rows)})
    going_on = Batch.objects.filter(ref=batch, state=Batch.State.IN_PROGRESS, expires__gt=now).update(rung_at=now)
    return Kept(frozenset(rows), frozenset(pk for pk, cancelled in rows.items() if cancelled), stop=not going_on)


def settle(*, actor: str, steps: Sequence[Step], shard: OwnShard) -> dict[int, Position]:
    """Move the rows and write their records, in one transaction; a line that is missing in the answer is not ours."""
    opening = [step for step in steps if step.opens]
    ending = [step for step in steps if not step.opens]
    with shard.transaction(), connection.cursor() as cursor:
        moved = _open(cursor, actor, opening) | _end(cursor, actor, ending)
        told = [step for step in steps if step.held.id in moved]
        positions = audit.write_all([step.entry for step in told], shard=shard)
    return {step.held.id: position for step, position in zip(told, positions, strict=True)}


def _open(cursor: CursorWrapper, worker: str, steps: Sequence[Step]) -> set[int]:
    return _run(cursor, _OPEN, worker, steps) if steps else set()


def _end(cursor: CursorWrapper, worker: str, steps: Sequence[Step]) -> set[int]:
    if not steps:
        return set()
    sealer = keyring.sealer()
    failures = [step.held.failures + rules.is_failure(step.entry.outcome) for step in steps]
    nexts = [_next(step, count) for step, count in zip(steps, failures, strict=True)]
    results = [
        sealer.seal(step.result, aad=rules.result_name(step.held.ref)) if then.state == Job.State.SUCCEEDED else None
        for step, then in zip(steps, nexts, strict=True)
    ]
    return _run(
        cursor,
        _CLOSE,
        worker,
        steps,
        now=timezone.now(),
        opened=_array(step.entry.kind == "outcome" for step in steps),
        states=_array(then.state for then in nexts),
        codes=_array(then.code for then in nexts),
        failures=_array(failures),
        delays=_array(then.delay.total_seconds() for then in nexts),
        results=_array(results),
    )


def _next(step: Step, failures: int) -> rules.Next:
    if step.entry.kind != "outcome":
        return rules.Next("failed", step.entry.outcome)  # refused before anything was asked
    return rules.after(step.entry.outcome, failures=failures, cancel_requested=step.cancelled)


@unaudited("the attempts never began: nothing was asked of the engine")
def put_back_lines(*, worker: str, held: Sequence[Held], delay: timedelta) -> None:
    """Return lines that could not be tried now. They are not counted as failures."""
    with connection.cursor() as cursor:
        cursor.execute(_BACK, {**_fence(worker, held), "until": timezone.now() + delay})


def _run(cursor: CursorWrapper, statement: str, worker: str, steps: Sequence[Step], **more: Any) -> set[int]:
    cursor.execute(statement, {**_fence(worker, [step.held for step in steps]), **more})
    return {row[0] for row in cursor.fetchall()}


def _fence(worker: str, held: Iterable[Held]) -> dict[str, Any]:
    rows = list(held)
    return {"worker": worker, "ids": _array(h.id for h in rows), "attempts": _array(h.attempt for h in rows)}


def _array(values: Iterable[object]) -> str:
    """PostgreSQL's text form of an array of our own words, numbers and bytes; psycopg's costs 87 µs a row."""
    return "{" + ",".join(_element(value) for value in values) + "}"


def _element(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case bytes():
            return f'"\\\\x{value.hex()}"'
        case str():
            if not value.isascii() or not value.replace("_", "").isalnum():
                if value == "":
                    return '""'
                raise ValueError("only words of our own go into an array")
            return f'"{value}"'
        case _:
            return str(value)
