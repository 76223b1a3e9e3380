"""A worker's turns at a batch: what becomes of its lines when the engine, the model, the key, the worker or time goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from appliance.audit.entry import Entry, now_us
from appliance.audit.services import OwnShard
from inference.clients import services as clients
from inference.policy.rules import Rights
from inference.queue import rules, selectors, services
from inference.queue.models import Batch, Job
from inference.queue.tasks import Bench
from inference.releases.models import Deployment
from tests.inference.queue.test_batches import (
    counts,
    in_another_thread,
    lines,
    make_ready,
    records,
    states,
    submit,
    turn,
    view,
)
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn


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


def test_a_word_about_an_earlier_attempt_or_from_another_worker_touches_no_later_one(rights: Rights) -> None:
    ref, shard = submit(rights, lines(1)), OwnShard("test")
    (first,) = services.claim_lines(worker="one", batch=ref, after=0, most=1)
    services.settle(actor="one", steps=[intent(first)], shard=shard)
    Job.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    services.sweep(actor="sweep")
    make_ready(ref)
    (second,) = services.claim_lines(worker="one", batch=ref, after=0, most=1)
    services.settle(actor="one", steps=[intent(second)], shard=shard)
    assert services.settle(actor="one", steps=[outcome(first)], shard=shard) == {}
    assert services.settle(actor="two", steps=[outcome(second)], shard=shard) == {}
    services.put_back_lines(worker="one", held=[first, second], delay=timedelta(0))
    assert states(ref) == {"running": 1}
    assert set(services.settle(actor="one", steps=[outcome(second)], shard=shard)) == {second.id}


def test_there_is_no_outcome_without_an_intent_and_no_second_intent(rights: Rights) -> None:
    ref, shard = submit(rights, lines(1)), OwnShard("test")
    (held,) = services.claim_lines(worker="one", batch=ref, after=0, most=1)
    assert services.settle(actor="one", steps=[outcome(held)], shard=shard) == {}
    assert set(services.settle(actor="one", steps=[intent(held)], shard=shard)) == {held.id}
    assert services.settle(actor="one", steps=[intent(held)], shard=shard) == {}
    refusal = services.Step(held, entry(held, "refusal", "rights_withdrawn"))
    assert services.settle(actor="one", steps=[refusal], shard=shard) == {}
    assert records(ref) == {held.request_id: [("intent", "started")]}


def test_two_workers_share_a_batch_and_never_a_line(rights: Rights) -> None:
    ref = submit(rights, lines(10))
    one = services.claim_lines(worker="one", batch=ref, after=0, most=6)
    two = services.claim_lines(worker="two", batch=ref, after=0, most=6)
    assert ([each.line for each in one], [each.line for each in two]) == ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10])


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
        await asyncio.to_thread(
            in_another_thread, lambda: services.cancel_batch(actor="ward-7", rights=rights, ref=ref)
        )
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
