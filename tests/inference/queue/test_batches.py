"""Batches: accepted whole or not at all, each line answered once, whatever dies or goes away in between."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, models
from django.utils import timezone

from inference.policy.rules import Rights
from inference.queue import copying, rules, selectors, services
from inference.queue.errors import (
    BatchError,
    BatchNotFoundError,
    FileInUseError,
    FileNotStoredError,
    IdempotencyConflictError,
    TooManyJobsError,
)
from inference.queue.models import Batch, File, Job
from inference.queue.tasks import Bench
from tests.inference.queue.test_jobs import CANARY, ask
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn

PER_COPY = 2000


def lines(count: int, **changes: Any) -> list[rules.Line | rules.BadLine]:
    return [rules.Line(n, f"visit-{n}", ask(**changes)) for n in range(1, count + 1)]


def stored(rights: Rights, content: bytes = b"{}\n") -> str:
    ref = services.begin_file(rights=rights, name="night.jsonl")
    services.add_piece(ref=ref, number=0, content=content)
    lines = content.count(b"\n")
    services.finish_file(actor=rights.client, rights=rights, ref=ref, lines=lines, request_id="r")
    return ref


def accept(rights: Rights, source: str = "", **more: Any) -> str:
    return services.accept_batch(
        actor=rights.client, rights=rights, input_file=source or stored(rights), request_id="r", **more
    ).ref


def expand(ref: str, given: Iterable[rules.Line | rules.BadLine]) -> bool:
    return services.expand_batch(actor="reader", ref=ref, read=lambda *_: given)


def submit(rights: Rights, given: Iterable[rules.Line | rules.BadLine], **more: Any) -> str:
    ref = accept(rights, **more)
    expand(ref, given)
    return ref


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


def test_a_batch_is_on_record_when_it_is_accepted_when_it_is_read_and_when_it_ends(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    ref = submit(rights, [*lines(2), rules.BadLine(3, "invalid_json", "not JSON")])
    turn(bench, ref)
    rows = lans.audit_rows(f"target = '{ref}'")
    assert [(row["action"], row["outcome"]) for row in rows] == [
        ("batch.accepted", "ok"),
        ("batch.expanded", "in_progress"),
        ("batch.finished", "completed"),
    ]
    assert json.loads(rows[1]["detail"]) == {"lines": 3, "refused": 1}
    assert json.loads(rows[2]["detail"]) == {"failed": 1, "lines": 3, "succeeded": 2}


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


def test_a_batch_is_read_whole_or_not_at_all_and_once(rights: Rights) -> None:
    def breaks() -> Iterable[rules.Line | rules.BadLine]:
        yield from lines(PER_COPY + 10)
        raise RuntimeError

    ref = accept(rights)
    with pytest.raises(RuntimeError):
        expand(ref, breaks())
    assert (Job.objects.count(), view(rights, ref).state) == (0, "validating")
    assert lans.audit_rows("action = 'batch.expanded'") == []
    assert expand(ref, lines(3))
    assert not expand(ref, lines(3))
    assert (Job.objects.count(), counts(rights, ref)) == (3, (3, 0, 0))


def test_a_batch_that_is_being_read_is_left_alone_by_others(rights: Rights) -> None:
    ref = accept(rights)
    asked = []

    def meanwhile() -> Iterable[rules.Line | rules.BadLine]:
        asked.append(in_another_thread(lambda: expand(ref, lines(1))))
        asked.append(in_another_thread(services.unread_batches))
        yield from lines(2)

    Batch.objects.update(rung_at=timezone.now() - rules.RING_AGAIN * 2)
    assert expand(ref, meanwhile())
    assert (asked, Job.objects.count()) == ([False, ()], 2)


def test_an_accepted_batch_that_nobody_reads_is_rung_for_again_but_not_at_every_sweep(rights: Rights) -> None:
    ref = accept(rights)
    assert services.unread_batches() == ()
    Batch.objects.update(rung_at=timezone.now() - rules.RING_AGAIN * 2)
    assert services.unread_batches() == (ref,)
    assert services.unread_batches() == ()


def test_the_file_of_a_batch_that_is_not_read_yet_is_kept(rights: Rights) -> None:
    source = stored(rights)
    ref = accept(rights, source)
    about: dict[str, Any] = {"actor": rights.client, "rights": rights, "request_id": "r"}
    with pytest.raises(FileInUseError):
        services.delete_file(ref=source, **about)
    File.objects.update(created=timezone.now() - rules.FILE_LIFE * 2)
    services.forget()
    assert File.objects.filter(ref=source).exists()
    expand(ref, lines(1))
    services.forget()
    assert not File.objects.exists()


def test_a_file_without_a_line_is_a_batch_that_failed(rights: Rights) -> None:
    ref = submit(rights, [])
    assert (view(rights, ref).state, counts(rights, ref)) == ("failed", (0, 0, 0))


def test_lines_are_decided_by_the_rights_of_whoever_handed_them_in(rights: Rights) -> None:
    ref = submit(replace(rights, tasks=frozenset({"prior_auth_letter"}), end_user="dr.lee"), lines(1))
    assert [row.code for row in selectors.output(client=rights.client, ref=ref, failed=True)] == ["task_not_granted"]


def test_rights_come_back_as_they_were(rights: Rights) -> None:
    narrowed = replace(rights, models=frozenset({"m"}), end_user="dr.lee", vouched_by="idp")
    assert rules.unpack_rights(rules.pack_rights(narrowed)) == narrowed
    assert rules.unpack_rights(rules.pack_rights(rights)) == rights


def test_there_is_an_end_to_how_much_one_client_may_have_waiting(
    rights: Rights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MOST_UNFINISHED_LINES", 5)
    accept(rights, stored(rights, b"{}\n" * 3))
    with pytest.raises(TooManyJobsError):
        accept(rights, stored(rights, b"{}\n" * 3))
    accept(rights, stored(rights, b"{}\n" * 2))
    other = replace(rights, client="ward-8")
    accept(other, stored(other, b"{}\n" * 3))


def test_another_clients_file_makes_no_batch(rights: Rights) -> None:
    source = stored(rights)
    with pytest.raises(FileNotStoredError):
        accept(replace(rights, client="ward-8"), source)
    assert Batch.objects.count() == 0


def test_the_same_idempotency_key_is_one_batch_and_another_file_is_a_conflict(rights: Rights) -> None:
    source = stored(rights)
    first = accept(rights, source, idempotency_key="night-1")
    assert accept(rights, source, idempotency_key="night-1") == first
    with pytest.raises(IdempotencyConflictError):
        accept(rights, stored(rights), idempotency_key="night-1")
    other = replace(rights, client="ward-8")
    assert accept(other, stored(other), idempotency_key="night-1") != first
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
    assert batch.started is not None
    assert (row.client, row.key_id, row.task, row.purpose) == (rights.client, rights.key_id, "progress_note", "TREAT")
    assert row.created == row.not_before == row.rung_at <= batch.started
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


def test_a_waiting_batch_is_cancelled_at_once(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    ref = submit(rights, lines(5))
    services.cancel_batch(actor=rights.client, rights=rights, ref=ref)
    services.end_batches(actor="sweep")
    assert (view(rights, ref).state, counts(rights, ref)) == ("cancelled", (5, 0, 5))
    turn(bench, ref)
    assert engine.seen == []
    with pytest.raises(BatchError):
        services.cancel_batch(actor=rights.client, rights=rights, ref=ref)
    with pytest.raises(BatchNotFoundError):
        services.cancel_batch(actor="ward-8", rights=replace(rights, client="ward-8"), ref=ref)


def test_what_is_kept_of_a_batch_has_a_life(rights: Rights, bench: Bench, engine: EngineStandIn) -> None:
    ref = submit(rights, lines(3))
    turn(bench, ref)
    Batch.objects.update(finished=timezone.now() - rules.RESULT_LIFE * 2)
    services.forget()
    assert (Job.objects.count(), counts(rights, ref)) == (0, (3, 3, 0))


def ended_long_ago(rights: Rights, bench: Bench, count: int) -> list[str]:
    """Batches that ended beyond their life, the last of them first."""
    refs = [submit(rights, lines(1), metadata={"ward": CANARY}) for _ in range(count)]
    for age, ref in enumerate(refs):
        turn(bench, ref)
        long_ago = timezone.now() - rules.RESULT_LIFE * 2 - timedelta(hours=age)
        Batch.objects.filter(ref=ref).update(finished=long_ago)
    return refs


def test_every_batch_whose_life_is_over_goes_in_one_turn_and_its_words_with_it(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    refs = ended_long_ago(rights, bench, 3)
    services.forget()
    assert Job.objects.count() == 0
    assert [view(rights, ref).metadata for ref in refs] == [None] * 3
    assert counts(rights, refs[0]) == (1, 1, 0)
    Batch.objects.filter(ref=refs[0]).update(finished=timezone.now() - rules.BATCH_LIFE * 2)
    services.forget()
    assert sorted(Batch.objects.values_list("ref", flat=True)) == sorted(refs[1:])


def test_a_turn_of_forgetting_that_is_out_of_time_has_begun_with_what_is_oldest(
    rights: Rights, bench: Bench, engine: EngineStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "FORGET_S", 0.0)
    refs = ended_long_ago(rights, bench, 3)
    services.forget()
    assert sorted(Job.objects.values_list("batch__ref", flat=True)) == sorted(refs[:2])


def in_another_thread(act: Callable[[], Any]) -> Any:
    """On a connection of its own, as another process would."""

    def run() -> Any:
        try:
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(run).result(20)
