"""Batches: accepted whole or not at all, each line answered once, whatever dies or goes away in between."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, models
from django.utils import timezone

from appliance.audit.entry import Entry, now_us
from appliance.audit.services import OwnShard
from inference.clients import services as clients
from inference.policy.rules import Rights
from inference.queue import copying, rules, selectors, services
from inference.queue.errors import BatchError, BatchNotFoundError, IdempotencyConflictError, TooManyJobsError
from inference.queue.models import Batch, Job
from inference.queue.tasks import Bench
from inference.releases.models import Deployment
from tests.inference.queue.test_jobs import CANARY, ask
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn

PER_COPY = 2000


def lines(count: int, **changes: Any) -> list[rules.Line | rules.BadLine]:
    return [rules.Line(n, f"visit-{n}", ask(**changes)) for n in range(1, count + 1)]


def submit(rights: Rights, given: Iterable[rules.Line | rules.BadLine], **more: Any) -> str:
    facts = {
        "actor": rights.client,
        "rights": rights,
        "lines": given,
        "input_file": "file-1",
        "request_id": "r",
        **more,
    }
    return services.submit_batch(**facts).ref


def turn(bench: Bench, ref: str, number: int = 0) -> None:
    bench.runner.run(bench.turn(ref, number))


def view(rights: Rights, ref: str) -> selectors.BatchView:
    return selectors.batch(client=rights.client, ref=ref)


def counts(rights: Rights, ref: str) -> tuple[int, int, int]:
    found = view(rights, ref).counts
    return found.total, found.completed, found.failed


def records(ref: str) -> dict[str, list[tuple[str, str]]]:
    """Intents and outcomes of each attempt of a batch's lines, in the order of the log."""
    found: dict[str, list[tuple[str, str]]] = {}
    prefix = rules.line_ref(ref, 1)[:20]
    for row in lans.audit_rows(f"request_id LIKE '{prefix}%' AND kind IN ('intent', 'outcome')"):
        found.setdefault(row["request_id"], []).append((row["kind"], row["outcome"]))
    return found


def states(ref: str) -> Counter[str]:
    return Counter(Job.objects.filter(batch__ref=ref).values_list("state", flat=True))


def make_ready(ref: str) -> None:
    Job.objects.filter(batch__ref=ref, state="queued").update(not_before=timezone.now())


def test_every_line_is_answered_once_with_a_pair_of_records_and_the_batch_ends(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights, lines(100))
    assert (view(rights, ref).state, counts(rights, ref)) == ("in_progress", (100, 0, 0))
    turn(bench, ref)
    assert (view(rights, ref).state, counts(rights, ref)) == ("completed", (100, 100, 0))
    assert len(engine.seen) == 100
    assert 1 < engine.most <= bench.width
    found = records(ref)
    assert len(found) == 100
    assert set(map(tuple, found.values())) == {(("intent", "started"), ("outcome", "ok"))}
    first = selectors.output(client=rights.client, ref=ref, failed=False, limit=1)[0]
    assert first.result is not None
    assert (first.line, first.custom_id, first.result["text"]) == (1, "visit-1", "The patient is well.")
    turn(bench, ref)  # a bell that rings twice
    assert len(engine.seen) == 100


def test_a_batch_is_one_record_with_its_counts_and_its_end_is_another(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights, [*lines(2), rules.BadLine(3, "invalid_json", "not JSON")])
    turn(bench, ref)
    accepted, finished = lans.audit_rows(f"target = '{ref}'")
    assert (accepted["action"], json.loads(accepted["detail"])["refused"]) == ("batch.accepted", 1)
    assert (finished["action"], finished["outcome"]) == ("batch.finished", "completed")
    assert json.loads(finished["detail"]) == {"failed": 1, "lines": 3, "succeeded": 2}


def test_a_bad_line_fails_alone_and_says_why(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    given: list[rules.Line | rules.BadLine] = lines(3)
    given[1] = rules.Line(2, "visit-1", ask())
    given.append(rules.Line(4, "visit-4", ask(purpose="BILLING")))
    given.append(rules.BadLine(5, "invalid_json", "the body is not one JSON document"))
    ref = submit(rights, given)
    turn(bench, ref)
    assert (view(rights, ref).state, counts(rights, ref)) == ("completed", (5, 2, 3))
    errors = selectors.output(client=rights.client, ref=ref, failed=True)
    assert [(row.line, row.code, row.custom_id) for row in errors] == [
        (2, "duplicate_custom_id", "visit-1"),
        (4, "purpose_unknown", "visit-4"),
        (5, "invalid_json", ""),
    ]
    assert errors[1].result is not None
    assert errors[1].result["param"] == "metadata.purpose"


def test_a_batch_of_bad_lines_only_has_ended_when_it_is_accepted(rights: Rights) -> None:
    ref = submit(rights, [rules.BadLine(1, "invalid_json", "not JSON")])
    assert (view(rights, ref).state, counts(rights, ref)) == ("completed", (1, 0, 1))


def test_a_batch_is_accepted_whole_or_not_at_all(rights: Rights) -> None:
    def breaks() -> Iterable[rules.Line | rules.BadLine]:
        yield from lines(PER_COPY + 10)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        submit(rights, breaks())
    with pytest.raises(BatchError):
        submit(rights, [])
    assert (Job.objects.count(), Batch.objects.count(), lans.audit_rows("target LIKE 'batch%'")) == (0, 0, [])


def test_there_is_an_end_to_how_much_one_client_may_have_waiting(
    rights: Rights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MOST_UNFINISHED_LINES", 5)
    submit(rights, lines(3))
    with pytest.raises(BatchError) as too_many:
        submit(rights, lines(3))
    assert too_many.value.code == "too_many_lines"
    submit(rights, lines(2))
    with pytest.raises(TooManyJobsError):
        submit(rights, lines(1))
    submit(replace(rights, client="ward-8"), lines(3))


def test_the_same_idempotency_key_is_one_batch_and_another_file_is_a_conflict(rights: Rights) -> None:
    first = submit(rights, lines(2), idempotency_key="night-1")
    assert submit(rights, lines(2), idempotency_key="night-1") == first
    with pytest.raises(IdempotencyConflictError):
        submit(rights, lines(2), idempotency_key="night-1", input_file="file-2")
    assert submit(replace(rights, client="ward-8"), lines(2), idempotency_key="night-1") != first
    assert Batch.objects.count() == 2


def test_the_copied_columns_are_all_that_the_database_does_not_fill_itself(rights: Rights) -> None:
    fields = {
        f.column for f in Job._meta.get_fields() if isinstance(f, models.Field) and not f.null and not f.primary_key
    }
    assert fields <= set(copying.COLUMNS)
    assert set(copying.COLUMNS) <= {f.column for f in Job._meta.get_fields() if isinstance(f, models.Field)}


def test_a_copied_row_is_the_row_that_the_orm_would_have_written(rights: Rights) -> None:
    ref = submit(rights, lines(1))
    row = Job.objects.get(batch__ref=ref)
    batch = Batch.objects.get(ref=ref)
    assert (row.client, row.key_id, row.task, row.purpose) == (rights.client, rights.key_id, "progress_note", "TREAT")
    assert (row.created, row.not_before, row.rung_at) == (batch.rung_at,) * 3
    assert (row.attempt, row.failures, row.intent_open, row.cancel_requested) == (0, 0, False, False)
    assert (row.code, row.worker, row.started, row.finished, row.result) == ("", "", None, None, None)


def test_nothing_of_a_line_is_readable_at_rest(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    engine.tokens = ("For ", CANARY, ".")
    given: list[rules.Line | rules.BadLine] = [rules.Line(1, CANARY, ask())]
    given.append(rules.BadLine(2, "unknown_field", CANARY, CANARY, CANARY))
    ref = submit(rights, given, metadata={CANARY: CANARY})
    before = list(Job.objects.filter(batch__ref=ref).values())
    turn(bench, ref)
    after = list(Job.objects.filter(batch__ref=ref).values())
    assert (before[0]["payload"] is None, after[0]["payload"] is None) == (False, True)
    name = CANARY.split(maxsplit=1)[0].encode()
    for stored in (*before, *after, *Batch.objects.values(), *lans.audit_rows()):
        assert name not in repr(stored).encode()
        assert name not in b"".join(bytes(v) for v in stored.values() if isinstance(v, memoryview))


def test_a_line_whose_payload_was_swapped_fails_alone(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    ref = submit(rights, lines(3))
    stolen = Job.objects.get(batch__ref=ref, line=1).payload
    Job.objects.filter(batch__ref=ref, line=2).update(payload=stolen)
    turn(bench, ref)
    assert counts(rights, ref) == (3, 2, 1)
    assert [row.code for row in selectors.output(client=rights.client, ref=ref, failed=True)] == ["internal_error"]


def test_a_batch_waits_for_an_engine_that_is_away_and_no_line_is_given_up(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    engine.stop()
    ref = submit(rights, lines(20))
    for _ in range(rules.MOST_FAILURES + 2):
        make_ready(ref)
        turn(bench, ref)
    assert states(ref) == {"queued": 20}
    assert {tuple(pair) for pair in records(ref).values()} == {
        (("intent", "started"), ("outcome", "engine_unavailable"))
    }
    engine.start()
    make_ready(ref)
    turn(bench, ref)
    assert counts(rights, ref) == (20, 20, 0)


def test_without_a_model_nothing_is_tried_and_everything_waits(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights, lines(20))
    Deployment.objects.all().delete()
    turn(bench, ref)
    assert (states(ref), records(ref), engine.seen) == ({"queued": 20}, {}, [])


def test_lines_of_a_key_that_was_revoked_meanwhile_are_refused_on_record(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights, lines(5))
    clients.revoke_key(actor="erin", prefix=rights.key_id)
    turn(bench, ref)
    assert (view(rights, ref).state, counts(rights, ref), engine.seen) == ("completed", (5, 0, 5), [])
    assert len(lans.audit_rows("kind = 'refusal' AND outcome = 'rights_withdrawn'")) == 5


def test_a_line_that_fails_again_and_again_is_given_up_alone(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    engine.behave = "close_in_the_middle"
    ref = submit(rights, lines(2))
    for _ in range(rules.MOST_FAILURES):
        make_ready(ref)
        turn(bench, ref)
    assert (view(rights, ref).state, counts(rights, ref)) == ("completed", (2, 0, 2))
    assert len(records(ref)) == 2 * rules.MOST_FAILURES


def test_what_a_dead_worker_held_is_closed_as_unknown_and_done_again(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights, lines(10))
    held = services.claim_lines(worker="dead:1", batch=ref, after=0, most=6)
    shard = OwnShard("test")
    services.settle(actor="dead:1", steps=[intent(each) for each in held[:4]], shard=shard)
    assert services.sweep(actor="sweep") == ()  # its lease still runs
    Job.objects.filter(worker="dead:1").update(lease_until=timezone.now() - timedelta(seconds=1))
    services.sweep(actor="sweep")
    assert states(ref) == {"queued": 10}
    make_ready(ref)
    turn(bench, ref)
    assert counts(rights, ref) == (10, 10, 0)
    unknown = [pair for pair in records(ref).values() if pair == [("intent", "started"), ("outcome", "unknown")]]
    assert len(unknown) == 4
    assert Counter(Job.objects.values_list("failures", flat=True)) == {0: 6, 1: 4}  # what never began is not counted


def test_a_stale_worker_can_neither_begin_nor_finish_nor_keep_a_line_and_the_others_of_its_group_stand(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights, lines(4))
    held = services.claim_lines(worker="slow:1", batch=ref, after=0, most=4)
    shard = OwnShard("test")
    services.settle(actor="slow:1", steps=[intent(each) for each in held], shard=shard)
    lost = held[:2]
    Job.objects.filter(pk__in=[each.id for each in lost]).update(lease_until=timezone.now() - timedelta(seconds=1))
    services.sweep(actor="sweep")
    make_ready(ref)
    turn(bench, ref)
    before = {each.request_id: records(ref)[each.request_id] for each in lost}
    assert services.renew_lines(worker="slow:1", batch=ref).ids == {each.id for each in held[2:]}
    moved = services.settle(actor="slow:1", steps=[outcome(each) for each in held], shard=shard)
    assert set(moved) == {each.id for each in held[2:]}
    assert {each.request_id: records(ref)[each.request_id] for each in lost} == before
    services.settle(actor="slow:1", steps=[outcome(each) for each in held], shard=shard)
    assert {len(pair) for pair in records(ref).values()} == {2}
    late = selectors.output(client=rights.client, ref=ref, failed=False)
    assert [row.result and row.result["text"] for row in late] == ["The patient is well."] * 2 + ["late"] * 2


def test_two_workers_share_a_batch_and_never_a_line(rights: Rights) -> None:
    ref = submit(rights, lines(10))
    one = services.claim_lines(worker="one", batch=ref, after=0, most=6)
    two = services.claim_lines(worker="two", batch=ref, after=0, most=6)
    assert ([each.line for each in one], [each.line for each in two]) == ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10])


def test_a_waiting_batch_is_cancelled_at_once(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    ref = submit(rights, lines(5))
    services.cancel_batch(actor=rights.client, client=rights.client, ref=ref)
    services.end_batches(actor="sweep")
    assert (view(rights, ref).state, counts(rights, ref)) == ("cancelled", (5, 0, 5))
    turn(bench, ref)
    assert engine.seen == []
    with pytest.raises(BatchError):
        services.cancel_batch(actor=rights.client, client=rights.client, ref=ref)
    with pytest.raises(BatchNotFoundError):
        services.cancel_batch(actor="ward-8", client="ward-8", ref=ref)


def test_a_running_batch_is_cancelled_within_a_renewal_and_keeps_what_it_had(
    rights: Rights, bench: Bench, engine: EngineStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "RENEW_S", 0.2)
    ref = submit(rights, lines(60))
    turn_of = bench.turn(ref, 0)

    async def run() -> None:
        working = asyncio.create_task(turn_of)
        while len(engine.seen) < 20:  # noqa: ASYNC110 - the stand-in lives in another thread
            await asyncio.sleep(0.01)
        engine.behave = "hang"
        await asyncio.to_thread(_cancel, rights, ref)
        await asyncio.wait_for(working, 20)

    bench.runner.run(run())
    assert view(rights, ref).state == "cancelled"
    total, completed, failed = counts(rights, ref)
    assert (total, completed + failed) == (60, 60)
    assert completed >= 10
    ends = Counter(pair[-1] for pair in records(ref).values())
    assert set(ends) <= {("outcome", "ok"), ("outcome", "cancelled")}
    assert {len(pair) for pair in records(ref).values()} == {2}


def test_a_batch_whose_window_is_over_ends_with_what_it_has(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights, lines(4))
    held = services.claim_lines(worker="w", batch=ref, after=0, most=2)
    services.settle(actor="w", steps=[intent(each) for each in held], shard=(shard := OwnShard("test")))
    Batch.objects.update(expires=timezone.now() - timedelta(seconds=1))
    assert services.end_batches(actor="sweep") == ()  # two lines run
    assert services.renew_lines(worker="w", batch=ref).stop
    services.settle(actor="w", steps=[outcome(each) for each in held], shard=shard)
    assert services.end_batches(actor="sweep") == (ref,)
    assert (view(rights, ref).state, counts(rights, ref)) == ("expired", (4, 2, 2))


def test_a_lost_bell_of_a_batch_is_rung_again_at_its_first_waiting_line_but_not_at_every_sweep(rights: Rights) -> None:
    ref = submit(rights, lines(rules.SLICE + 5))
    assert services.unheard_batches() == ()
    Batch.objects.update(rung_at=timezone.now() - rules.RING_AGAIN * 2)
    Job.objects.filter(line__lte=rules.SLICE).update(not_before=timezone.now() + timedelta(hours=1))
    assert services.unheard_batches() == ((ref, 1),)
    assert services.unheard_batches() == ()


def test_what_is_kept_of_a_batch_has_a_life(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    ref = submit(rights, lines(3))
    turn(bench, ref)
    Batch.objects.update(finished=timezone.now() - rules.RESULT_LIFE * 2)
    services.forget()
    assert (Job.objects.count(), counts(rights, ref)) == (0, (3, 3, 0))


def intent(held: services.Held) -> services.Step:
    return services.Step(held, entry(held, "intent", "started"))


def outcome(held: services.Held) -> services.Step:
    return services.Step(held, entry(held, "outcome", "ok"), result=b'{"text": "late"}')


def entry(held: services.Held, kind: str, ended: str) -> Entry:
    return Entry(
        at_us=now_us(),
        kind=kind,
        action="inference.requested",
        actor="ward-7",
        outcome=ended,
        request_id=held.request_id,
    )


def _cancel(rights: Rights, ref: str) -> None:
    try:
        services.cancel_batch(actor=rights.client, client=rights.client, ref=ref)
    finally:
        connection.close()
