"""Durable work whose rights are taken back while an engine says nothing: it ends, on record, within a renewal."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from inference.clients import services as clients
from inference.policy.rules import Rights
from inference.queue import rules, services
from inference.queue.models import Job
from inference.queue.tasks import Bench
from tests.inference.queue import test_batches as batches
from tests.inference.queue import test_jobs as jobs
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn


def revoked_meanwhile(bench: Bench, engine: EngineStandIn, rights: Rights, work: Coroutine[Any, Any, None]) -> None:
    """Do the work with an engine that is silent, and take the key away once it has been asked."""
    engine.behave = "hang"

    async def run() -> None:
        working = asyncio.create_task(work)
        while not engine.now:  # noqa: ASYNC110 - the stand-in lives in another thread
            await asyncio.sleep(0.01)
        revoke = lambda: clients.revoke_key(actor="erin", prefix=rights.key_id)  # noqa: E731 - for another thread
        await asyncio.to_thread(batches.in_another_thread, revoke)
        await asyncio.wait_for(working, 10)

    bench.runner.run(run())


def test_a_silent_job_ends_with_its_key(
    rights: Rights, bench: Bench, engine: EngineStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "RENEW_S", 0.2)
    ref = jobs.submit(rights).ref
    revoked_meanwhile(bench, engine, rights, bench.attempt(ref))
    job = Job.objects.get(ref=ref)
    assert (job.state, job.code) == ("failed", "rights_withdrawn")
    assert jobs.pairs(ref) == [(".1", "intent", "started"), (".1", "outcome", "rights_withdrawn")]


def test_silent_lines_of_a_batch_end_with_its_key(
    rights: Rights, bench: Bench, engine: EngineStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "RENEW_S", 0.2)
    ref = batches.submit(rights, batches.lines(3))
    revoked_meanwhile(bench, engine, rights, bench.turn(ref, 0))
    assert batches.counts(rights, ref) == (3, 0, 3)
    assert set(Job.objects.filter(batch__ref=ref).values_list("state", "code")) == {("failed", "rights_withdrawn")}


def test_durable_work_keeps_the_proved_user_and_its_acceptance_says_that_it_was_proved(rights: Rights) -> None:
    proved = replace(rights, end_user="dr.lee", vouched_by="idp/1")
    job, batch = jobs.submit(proved).ref, batches.submit(proved, batches.lines(1))
    asked = [services.claim(actor="w", ref=job), *services.claim_lines(worker="w", batch=batch, after=0, most=1)]
    assert [claim.ask.end_user for claim in asked if claim is not None and claim.ask is not None] == ["dr.lee"] * 2
    rows = lans.audit_rows("action IN ('job.accepted', 'batch.accepted')")
    assert ['"user": "dr.lee", "user_proved": true' in row["detail"] for row in rows] == [True, True]
