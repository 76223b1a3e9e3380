"""A paused line starts nothing new, what runs ends, and it goes on afterwards; staff may end anybody's work."""

from __future__ import annotations

import asyncio

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.audit import selectors as log
from inference.policy.rules import Rights
from inference.queue import rules, selectors, services
from inference.queue.errors import BatchError, JobFinishedError, JobNotFoundError, PauseError
from inference.queue.models import Job, Pause
from inference.queue.tasks import Bench
from tests.inference.queue import test_batches as batches
from tests.inference.queue.test_jobs import submit
from tests.simulators.engine import EngineStandIn
from tests.waiting import until_async

WHY = "The cards are being exchanged."


def state(ref: str) -> str:
    return Job.objects.values_list("state", flat=True).get(ref=ref)


def test_a_paused_line_starts_no_job_and_goes_on_afterwards(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights).ref
    services.pause(actor="alice", reason=WHY)
    bench.runner.run(bench.attempt(ref))
    assert (state(ref), engine.seen) == ("queued", [])
    services.resume(actor="alice")
    bench.runner.run(bench.attempt(ref))
    assert state(ref) == "succeeded"


def test_a_paused_line_starts_no_line_of_a_batch_and_goes_on_afterwards(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = batches.submit(rights, batches.lines(3))
    services.pause(actor="alice", reason=WHY)
    bench.runner.run(bench.turn(ref, 0))
    assert engine.seen == []
    assert selectors.batch_of_anybody(ref).counts.completed == 0
    services.resume(actor="alice")
    bench.runner.run(bench.turn(ref, 0))
    assert selectors.batch_of_anybody(ref).state == "completed"


def test_nobody_is_rung_for_while_it_is_paused_and_everybody_afterwards(rights: Rights) -> None:
    job, batch = submit(rights).ref, batches.submit(rights, batches.lines(2))
    long_ago = timezone.now() - 2 * rules.RING_AGAIN
    Job.objects.update(rung_at=long_ago)
    type(Job.objects.get(batch__ref=batch, line=1).batch).objects.update(rung_at=long_ago)  # type: ignore[union-attr]  # a line's batch
    services.pause(actor="alice", reason=WHY)
    assert (services.sweep(actor="sweeper"), services.unheard_batches()) == ((), ())
    services.resume(actor="alice")
    assert services.sweep(actor="sweeper") == (job,)
    assert [ref for ref, _ in services.unheard_batches()] == [batch]


def test_a_turn_that_is_paused_ends_what_runs_and_gives_back_what_it_had_not_begun(
    rights: Rights, bench: Bench, engine: EngineStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "RENEW_S", 0.05)
    engine.tokens, engine.pause_s = ("word ",) * 4, 0.4
    count = bench.width + 20
    ref = batches.submit(rights, batches.lines(count))

    async def begun() -> bool:
        return bool(engine.seen)

    async def turn() -> None:
        running = asyncio.create_task(bench.turn(ref, 0))
        await until_async(begun, 10, "a line is in the engine")
        await bench.rows.call(services.pause, actor="alice", reason=WHY)
        await running

    bench.runner.run(turn())
    counts = selectors.batch_of_anybody(ref).counts
    assert 0 < counts.completed <= bench.width, "what ran ended, and nothing began after it"
    assert counts.failed == 0
    assert Job.objects.filter(batch__ref=ref, state="queued").count() == count - counts.completed
    engine.pause_s = 0
    services.resume(actor="alice")
    Job.objects.filter(batch__ref=ref, state="queued").update(not_before=timezone.now())
    bench.runner.run(bench.turn(ref, 0))
    assert selectors.batch_of_anybody(ref).counts.completed == count


def test_a_pause_says_by_whom_and_why_and_there_is_one(rights: Rights) -> None:
    services.pause(actor="alice", reason=WHY, request_id="r1")
    found = selectors.pause()
    assert found
    assert (found.by, found.reason) == ("alice", WHY)
    with pytest.raises(PauseError) as refused:
        services.pause(actor="erin", reason="again")
    assert refused.value.code == "already_paused"
    services.resume(actor="erin")
    with pytest.raises(PauseError) as refused:
        services.resume(actor="erin")
    assert refused.value.code == "not_paused"
    rows = [row for row in log.search(log.Query()) if row.action.startswith("queue.")]
    assert [(row.action, row.actor) for row in rows] == [("queue.resumed", "erin"), ("queue.paused", "alice")]
    assert WHY in rows[1].detail


def test_the_database_takes_no_pause_of_another_lane_or_without_a_reason(rights: Rights) -> None:
    for wrong in ({"lane": "stat", "reason": "x"}, {"lane": "batch", "reason": ""}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Pause.objects.create(by="alice", **wrong)


def test_staff_end_a_waiting_job_at_once_and_not_twice(rights: Rights, bench: Bench) -> None:
    ref = submit(rights).ref
    services.stop_job(actor="alice", ref=ref, reason=WHY)
    assert state(ref) == "cancelled"
    assert selectors.of_client(client=rights.client, ref=ref).job.state == "cancelled"
    with pytest.raises(JobFinishedError):
        services.stop_job(actor="alice", ref=ref, reason=WHY)
    with pytest.raises(JobNotFoundError):
        services.stop_job(actor="alice", ref="job_none", reason=WHY)
    (row,) = log.search(log.Query(action="job.cancelled"))
    assert (row.actor, row.client, WHY in row.detail) == ("alice", rights.client, True)


def test_staff_end_a_batch_and_what_was_answered_stays(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    ref = batches.submit(rights, batches.lines(3))
    first = Job.objects.get(batch__ref=ref, line=1)
    Job.objects.filter(pk=first.pk).update(state="succeeded", finished=timezone.now(), payload=None)
    services.stop_batch(actor="alice", ref=ref, reason=WHY)
    services.end_batches(actor="sweeper", only=ref)
    found = selectors.batch_of_anybody(ref)
    assert (found.state, found.counts.completed, found.counts.failed) == ("cancelled", 1, 2)
    with pytest.raises(BatchError):
        services.stop_batch(actor="alice", ref=ref, reason=WHY)
    (row,) = log.search(log.Query(action="batch.cancelled"))
    assert (row.actor, WHY in row.detail) == ("alice", True)
