"""Durable work whose rights are taken back while an engine says nothing: it ends, on record, within a renewal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from appliance.keyring import services as keyring
from appliance.keyring.errors import SealBrokenError
from inference.clients import services as clients
from inference.policy.rules import Rights
from inference.queue import rules, services
from inference.queue.models import Job
from inference.queue.tasks import Bench
from tests.inference.queue import test_batches as batches
from tests.inference.queue import test_jobs as jobs
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn
from tests.simulators.identity import Provider


def revoked_meanwhile(bench: Bench, engine: EngineStandIn, rights: Rights, work: Coroutine[Any, Any, None]) -> None:
    """Do the work with an engine that is silent, and take the key away once it has been asked."""
    meanwhile(bench, engine, lambda: clients.revoke_key(actor="erin", prefix=rights.key_id), work)


def meanwhile(
    bench: Bench, engine: EngineStandIn, withdraw: Callable[[], Any], work: Coroutine[Any, Any, None]
) -> None:
    engine.behave = "hang"

    async def run() -> None:
        working = asyncio.create_task(work)
        while not engine.now:  # noqa: ASYNC110 - the stand-in lives in another thread
            await asyncio.sleep(0.01)
        await asyncio.to_thread(batches.in_another_thread, withdraw)
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


@pytest.fixture
def proved(rights: Rights) -> Rights:
    """The same key for a user whom an issuer vouched for, and whose word covers less than the key."""
    idp = Provider().register(client=rights.client)
    tasks = frozenset({"progress_note", "visit_summary"})
    return replace(rights, tasks=tasks, end_user="dr.lee", vouched_by=f"{idp.name}/{idp.kid}")


def test_work_runs_as_the_user_who_was_proved_when_it_was_handed_in(
    proved: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    job, batch = jobs.submit(proved).ref, batches.submit(proved, batches.lines(1))
    jobs.attempt(bench, job)
    batches.turn(bench, batch)
    intents = lans.audit_rows("kind = 'intent'")
    assert [row["end_user"] for row in intents] == ["dr.lee"] * 2
    assert all('"user_proved": true' in row["detail"] for row in intents)


def test_work_of_a_user_does_not_run_once_its_issuer_is_suspended(
    proved: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    job, batch = jobs.submit(proved).ref, batches.submit(proved, batches.lines(1))
    clients.set_issuer_state(actor="erin", issuer="hospital-idp", active=False)
    jobs.attempt(bench, job)
    batches.turn(bench, batch)
    assert set(Job.objects.values_list("state", "code")) == {("failed", "rights_withdrawn")}
    assert engine.seen == []


def test_silent_work_of_a_user_ends_with_its_issuer(
    proved: Rights, bench: Bench, engine: EngineStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "RENEW_S", 0.2)
    ref = jobs.submit(proved).ref

    def suspend() -> object:
        return clients.set_issuer_state(actor="erin", issuer="hospital-idp", active=False)

    meanwhile(bench, engine, suspend, bench.attempt(ref))
    assert jobs.pairs(ref) == [(".1", "intent", "started"), (".1", "outcome", "rights_withdrawn")]


def test_work_runs_with_no_more_than_it_was_accepted_with(proved: Rights, bench: Bench, engine: EngineStandIn) -> None:
    ref = jobs.submit(proved).ref
    other = jobs.submit(proved, task="visit_summary").ref
    # As if one's row were changed to ask what the other may.
    Job.objects.filter(ref=ref).update(payload=keyring.seal(payload_of(other), aad=rules.payload_name(ref)))
    jobs.attempt(bench, ref)
    assert Job.objects.get(ref=ref).code == "task_not_granted"


def test_the_rights_of_one_job_do_not_open_for_another(proved: Rights, rights: Rights) -> None:
    mine, other = jobs.submit(proved).ref, jobs.submit(rights).ref
    Job.objects.filter(ref=mine).update(rights=Job.objects.get(ref=other).rights)
    with pytest.raises(SealBrokenError):
        services.claim(actor="w", ref=mine)


def test_work_from_before_its_rights_were_kept_does_not_run(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = jobs.submit(rights).ref
    Job.objects.update(rights=None)
    jobs.attempt(bench, ref)
    assert (Job.objects.get(ref=ref).code, engine.seen) == ("rights_withdrawn", [])


def payload_of(ref: str) -> bytes:
    return keyring.open_(bytes(Job.objects.get(ref=ref).payload or b""), aad=rules.payload_name(ref))


@pytest.mark.parametrize("kind", ["job", "batch"])
def test_silent_work_stops_when_nobody_can_say_any_more_and_waits_for_who_can(
    rights: Rights, bench: Bench, engine: EngineStandIn, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(rules, "RENEW_S", 0.2)
    standing = bench.house.standing
    ref = jobs.submit(rights).ref if kind == "job" else batches.submit(rights, batches.lines(1))
    work = bench.attempt(ref) if kind == "job" else bench.turn(ref, 0)

    async def unread() -> bool:
        return False

    def lose() -> None:
        """As if the last reading that succeeded were eleven seconds ago."""
        monkeypatch.setattr(standing, "refresh", unread)
        monkeypatch.setattr(standing, "_taken", time.monotonic() - 11)

    meanwhile(bench, engine, lose, work)
    assert list(Job.objects.values_list("state", "code", "failures")) == [("queued", "", 0)]
    assert [row["outcome"] for row in lans.audit_rows("kind = 'outcome'")] == ["rights_stale"]
