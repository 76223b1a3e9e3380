"""Durable work: accepted once, recorded once, whatever dies in between."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.entry import Entry, now_us
from appliance.keyring.errors import SealBrokenError
from inference.clients import services as clients
from inference.policy.ask import Ask, Decimal, Sampling
from inference.policy.errors import PolicyRefusal
from inference.policy.rules import Rights
from inference.queue import rules, selectors, services, tasks
from inference.queue.errors import IdempotencyConflictError, JobFinishedError, JobNotFoundError, LostLeaseError
from inference.queue.models import Job
from inference.queue.tasks import Bench
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn

CANARY = "Quimby Zarathustra"


def ask(**changes: Any) -> Ask:
    record = {"age": 71, "diagnoses": ["flu"], "plan": CANARY, "patient_name": CANARY}
    given = {"model": lans.MODEL, "record": record, "task": "progress_note", "purpose": "TREAT", **changes}
    return Ask(**given)


def submit(rights: Rights, key: str = "", **changes: Any) -> services.Accepted:
    return services.submit(actor=rights.client, rights=rights, ask=ask(**changes), request_id="r", idempotency_key=key)


def attempt(bench: Bench, ref: str) -> None:
    bench.runner.run(bench.attempt(ref))


def pairs(ref: str) -> list[tuple[str, str, str]]:
    rows = lans.audit_rows(f"request_id LIKE '{ref}.%'")
    return [(row["request_id"].removeprefix(ref), row["kind"], row["outcome"]) for row in rows]


def answered(rights: Rights, ref: str) -> selectors.Answered:
    return selectors.of_client(client=rights.client, ref=ref)


def expire_the_lease(ref: str) -> None:
    Job.objects.filter(ref=ref).update(lease_until=timezone.now() - timedelta(seconds=1))


def test_a_job_is_answered_once_and_its_result_can_be_read_by_its_client(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights).ref
    assert answered(rights, ref).position == 1
    attempt(bench, ref)
    found = answered(rights, ref)
    assert (found.job.state, found.job.attempt) == ("succeeded", 1)
    assert found.result is not None
    assert found.result["text"] == "The patient is well."
    assert found.result["receipt"]["dropped_fields"] == ["patient_name"]
    assert pairs(ref) == [(".1", "intent", "started"), (".1", "outcome", "ok")]
    attempt(bench, ref)  # a bell that rings twice
    assert len(engine.seen) == 1
    assert engine.seen[0].fields["priority"] == 10


def test_a_job_waits_for_an_engine_that_is_not_there(rights: Rights, bench: Bench) -> None:
    ref = submit(rights).ref
    attempt(bench, ref)
    job = answered(rights, ref).job
    assert (job.state, job.code) == ("queued", "")
    assert pairs(ref) == [(".1", "intent", "started"), (".1", "outcome", "engine_unavailable")]


def test_a_job_is_given_up_after_five_failures_and_says_why(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    engine.behave = "close_in_the_middle"
    ref = submit(rights).ref
    for _ in range(rules.MOST_FAILURES + 2):
        Job.objects.filter(ref=ref, state="queued").update(not_before=timezone.now())
        attempt(bench, ref)
    job = answered(rights, ref).job
    assert (job.state, job.code) == ("failed", "engine_protocol")
    assert len(engine.seen) == rules.MOST_FAILURES
    assert [kind for _, kind, _ in pairs(ref)] == ["intent", "outcome"] * rules.MOST_FAILURES


def test_a_worker_that_died_leaves_an_unknown_outcome_and_the_job_is_tried_again(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights).ref
    claim = services.claim(actor="dead:1", ref=ref)
    assert claim is not None
    open_attempt(claim, "dead:1")
    assert services.sweep(actor="sweep") == ()  # its lease still runs
    expire_the_lease(ref)
    assert services.sweep(actor="sweep") == (ref,)
    attempt(bench, ref)
    assert answered(rights, ref).job.state == "succeeded"
    assert pairs(ref) == [
        (".1", "intent", "started"),
        (".1", "outcome", "unknown"),
        (".2", "intent", "started"),
        (".2", "outcome", "ok"),
    ]


def test_a_worker_that_died_before_its_intent_leaves_no_record_to_answer(rights: Rights) -> None:
    ref = submit(rights).ref
    services.claim(actor="dead:1", ref=ref)
    expire_the_lease(ref)
    assert services.sweep(actor="sweep") == (ref,)
    assert pairs(ref) == []


def test_a_stale_worker_can_neither_begin_nor_finish_nor_keep_its_attempt(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights).ref
    claim = services.claim(actor="slow:1", ref=ref)
    assert claim is not None
    intent = open_attempt(claim, "slow:1")
    expire_the_lease(ref)
    services.sweep(actor="sweep")
    attempt(bench, ref)
    with pytest.raises(LostLeaseError):
        services.renew(actor="slow:1", ref=ref, attempt=1)
    with pytest.raises(LostLeaseError):
        services.open_attempt(actor="slow:1", ref=ref, attempt=1, intent=intent)
    late = entry(claim, kind="outcome", outcome="ok")
    with pytest.raises(LostLeaseError):
        services.close_attempt(actor="slow:1", ref=ref, attempt=1, outcome=late, result=b'{"text": "late"}')
    found = answered(rights, ref)
    assert found.result is not None
    assert found.result["text"] == "The patient is well."
    assert len(pairs(ref)) == 4


def test_only_one_of_two_workers_gets_a_job(rights: Rights) -> None:
    ref = submit(rights).ref
    assert services.claim(actor="one", ref=ref) is not None
    assert services.claim(actor="two", ref=ref) is None


def test_a_lost_bell_is_rung_again_but_not_at_every_sweep(rights: Rights) -> None:
    ref = submit(rights).ref
    assert services.sweep(actor="sweep") == ()
    Job.objects.update(rung_at=timezone.now() - rules.RING_AGAIN * 2)
    assert services.sweep(actor="sweep") == (ref,)
    assert services.sweep(actor="sweep") == ()


def test_a_job_whose_key_was_revoked_meanwhile_is_not_run(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    ref = submit(rights).ref
    clients.revoke_key(actor="erin", prefix=rights.key_id)
    attempt(bench, ref)
    job = answered(rights, ref).job
    assert (job.state, job.code) == ("failed", "rights_withdrawn")
    assert engine.seen == []
    assert pairs(ref) == []
    assert len(lans.audit_rows(f"target = '{ref}' AND kind = 'refusal'")) == 1


def test_what_policy_refuses_is_refused_before_it_is_accepted(rights: Rights) -> None:
    with pytest.raises(PolicyRefusal) as refused:
        submit(rights, purpose="BILLING")
    assert refused.value.code == "purpose_unknown"
    assert Job.objects.count() == 0
    assert lans.audit_rows("action = 'job.accepted'") == []


def test_the_same_idempotency_key_is_one_job_and_another_body_is_a_conflict(rights: Rights) -> None:
    first = submit(rights, "key-1")
    again = submit(rights, "key-1")
    assert (again.ref, again.again) == (first.ref, True)
    with pytest.raises(IdempotencyConflictError):
        submit(rights, "key-1", purpose="ETREAT")
    assert Job.objects.count() == 1
    assert len(lans.audit_rows("action = 'job.accepted'")) == 1


def test_idempotency_keys_of_two_clients_are_apart(rights: Rights) -> None:
    other = replace(rights, client="ward-8")
    assert submit(rights, "key-1").ref != submit(other, "key-1").ref


def test_another_clients_job_does_not_exist(rights: Rights) -> None:
    ref = submit(rights).ref
    with pytest.raises(JobNotFoundError):
        selectors.of_client(client="ward-8", ref=ref)
    with pytest.raises(JobNotFoundError):
        services.cancel(actor="ward-8", rights=replace(rights, client="ward-8"), ref=ref)


def test_a_waiting_job_is_cancelled_at_once_and_an_ended_one_not_at_all(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights).ref
    assert services.cancel(actor=rights.client, rights=rights, ref=ref) == "cancelled"
    attempt(bench, ref)
    assert engine.seen == []
    with pytest.raises(JobFinishedError):
        services.cancel(actor=rights.client, rights=rights, ref=ref)


def test_a_running_job_is_cancelled_within_a_renewal_and_the_engine_is_hung_up_on(
    rights: Rights, bench: Bench, engine: EngineStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "RENEW_S", 0.2)
    engine.behave = "hang"
    ref = submit(rights).ref

    async def run() -> None:
        working = asyncio.create_task(bench.attempt(ref))
        while not engine.seen:  # noqa: ASYNC110 - the stand-in lives in another thread
            await asyncio.sleep(0.02)
        await asyncio.to_thread(_cancel, rights, ref)
        await asyncio.wait_for(working, 5)

    bench.runner.run(run())
    assert answered(rights, ref).job.state == "cancelled"
    assert pairs(ref) == [(".1", "intent", "started"), (".1", "outcome", "cancelled")]
    assert engine.seen[0].cut


def _cancel(rights: Rights, ref: str) -> None:
    try:
        services.cancel(actor=rights.client, rights=rights, ref=ref)
    finally:
        connection.close()


def test_nothing_of_a_record_is_in_the_job_row_or_the_log(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    engine.tokens = ("For ", CANARY, ".")
    ref = submit(rights, patient_id=CANARY).ref
    row = Job.objects.values().get(ref=ref)
    assert row["payload"]
    attempt(bench, ref)
    done = Job.objects.values().get(ref=ref)
    assert done["payload"] is None
    assert done["result"]
    for stored in (row, done, *lans.audit_rows()):
        assert CANARY.encode() not in repr(stored).encode()
        assert CANARY.split(maxsplit=1)[0].encode() not in b"".join(
            bytes(v) for v in stored.values() if isinstance(v, memoryview)
        )


def test_a_sealed_payload_cannot_be_moved_to_another_job(rights: Rights) -> None:
    one, two = submit(rights).ref, submit(rights).ref
    Job.objects.filter(ref=two).update(payload=Job.objects.get(ref=one).payload)
    with pytest.raises(SealBrokenError):
        services.claim(actor="w", ref=two)


def test_numbers_keep_their_spelling_in_the_queue(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    ref = submit(
        rights, record={"age": 71, "lab_values": {"inr": Decimal("1.20")}}, sampling=Sampling(temperature=0.0)
    ).ref
    attempt(bench, ref)
    assert engine.seen[0].fields["messages"][1]["content"] == '{"age": 71, "lab_values": {"inr": 1.20}}'
    assert engine.seen[0].fields["temperature"] == 0.0


def test_the_line_at_a_glance(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    first, second, third = (submit(rights).ref for _ in range(3))
    attempt(bench, first)
    services.claim(actor="w", ref=second)
    line = selectors.line()
    assert (line.depth, line.running, line.finished_last_hour) == (1, 1, 1)
    assert line.oldest_age is not None
    (client,) = line.clients
    assert (client.client, client.queued, client.running, client.finished_last_hour) == ("ward-7", 1, 1, 1)
    assert client.oldest_age == line.oldest_age
    running, waiting = selectors.head()
    assert [(each.place, each.job.ref) for each in waiting] == [(1, third)]
    assert [job.ref for job in running] == [second]
    listed, total = selectors.jobs_listed(order="-accepted", offset=0, limit=9, most=9)
    assert ([row.job.ref for row in listed], total) == ([third, second, first], 3)
    assert [row.place for row in listed] == [1, 0, 0]


def open_attempt(claim: services.Claim, actor: str) -> Any:
    intent = entry(claim, kind="intent", outcome="started")
    services.open_attempt(actor=actor, ref=claim.ref, attempt=claim.attempt, intent=intent)
    return intent


def entry(claim: services.Claim, *, kind: str, outcome: str) -> Any:
    return Entry(
        at_us=now_us(), kind=kind, action="inference.requested", actor="ward-7", outcome=outcome,
        request_id=claim.request_id, detail=json.dumps({}),
    )  # fmt: skip


def test_an_interactive_request_whose_process_died_gets_an_unknown_outcome_once(rights: Rights) -> None:
    def write(request_id: str, kind: str, minutes: int) -> None:
        at_us = now_us() - minutes * 60_000_000
        entry = Entry(
            at_us=at_us, kind=kind, action="x", actor="ward-7", outcome="ok", client="ward-7", request_id=request_id
        )
        with transaction.atomic():
            audit.write(entry)

    write("req_answered", "intent", 30)
    write("req_answered", "outcome", 29)
    write("req_running", "intent", 5)
    write("job_1.1", "intent", 30)
    write("req_died", "intent", 30)
    tasks.close_unanswered()
    tasks.close_unanswered()
    rows = lans.audit_rows("outcome = 'unknown'")
    assert [(row["request_id"], row["kind"], row["client"]) for row in rows] == [("req_died", "outcome", "ward-7")]
