"""The judge of the campaign: it acquits what is whole, and each broken promise has a fault of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.crash.checker import check
from tests.crash.facts import Batch, Facts, Job, key_hash

REF, OTHER, LINE, BATCH = "job_1", "job_2", "job_3", "batch_1"


def whole() -> Facts:
    """One job that succeeded at its second attempt, one that failed, one request that was answered."""
    ids = {f"{REF}.1": "unknown", f"{REF}.2": "ok", f"{OTHER}.1": "engine_refused", f"{LINE}.1": "ok", "req_1": "ok"}
    return Facts(
        ledger=[
            {"act": "accepted", "ref": REF, "mark": "mark-1"},
            {"act": "accepted", "ref": OTHER, "mark": "mark-2"},
            {"act": "accepted", "ref": BATCH, "mark": "mark-5"},
            {"act": "answered", "id": "req_1", "own": True, "kind": "chat"},
            {"act": "refused", "kind": "job", "status": 503, "code": "database_unavailable", "retry_after": "2"},
        ],
        jobs={
            REF: Job(REF, None, key_hash("mark-1"), "succeeded", "", 2, has_result=True),
            OTHER: Job(OTHER, None, key_hash("mark-2"), "failed", "engine_refused", 1, has_result=False),
            LINE: Job(LINE, 7, None, "succeeded", "", 1, has_result=True),
        },
        batches={BATCH: Batch(7, BATCH, key_hash("mark-5"), ended=True, total=1)},
        acceptances=Counter({REF: 1, OTHER: 1, BATCH: 1}),
        intents=Counter(ids.keys()),
        outcomes={name: [outcome] for name, outcome in ids.items()},
        shards={1: (8, 1, 8), 2: (2, 1, 2)},
        ledger_counter=(1, 8),
        began=Counter(ids.keys()),
        finished=Counter([f"{REF}.2", f"{LINE}.1", "req_1"]),
        texts={"mark-1": "Noted: mark-1. Rest."},
        verdict={"ok": True},
    )


def test_books_that_agree_have_no_fault() -> None:
    assert check(whole()) == []


def job(facts: Facts, **changes: Any) -> None:
    facts.jobs = {**facts.jobs, REF: replace(facts.jobs[REF], **changes)}


def batch(facts: Facts, **changes: Any) -> None:
    facts.batches = {BATCH: replace(facts.batches[BATCH], **changes)}


def without(facts: Facts, ref: str) -> None:
    facts.jobs = {name: row for name, row in facts.jobs.items() if name != ref}


def outcomes(facts: Facts, name: str, *found: str) -> None:
    facts.outcomes = {**facts.outcomes, name: list(found)}


def line(facts: Facts, **facts_of_line: Any) -> None:
    facts.ledger.append(facts_of_line)


BROKEN: dict[str, tuple[str, Callable[[Facts], Any]]] = {
    "an accepted job that is not there": ("job_lost", lambda f: without(f, REF)),
    "a job under another key": ("job_foreign", lambda f: job(f, key_hash=key_hash("mark-9"))),
    "a job that has not ended": ("job_unfinished", lambda f: job(f, state="running")),
    "an accepted batch that is not there": ("job_lost", lambda f: setattr(f, "batches", {})),
    "a batch without one of its lines": ("line_lost", lambda f: without(f, LINE)),
    "a batch that has not ended": ("batch_unfinished", lambda f: batch(f, ended=False)),
    "a client that never got an answer": ("never_acknowledged", lambda f: line(f, act="given_up", mark="mark-3")),
    "two jobs for one key": ("job_twice", lambda f: line(f, act="accepted", ref=OTHER, mark="mark-1")),
    "two records of one acceptance": ("acceptance_records", lambda f: f.acceptances.update([REF])),
    "one attempt run twice": ("engine_twice", lambda f: f.began.update([f"{REF}.2"])),
    "two answers to one job": ("answer_records", lambda f: outcomes(f, f"{REF}.1", "ok")),
    "an attempt nobody counted": ("attempt_unknown", lambda f: job(f, attempt=1)),
    "a success without its result": ("result", lambda f: job(f, has_result=False)),
    "a job given another's text": ("foreign_text", lambda f: f.texts.update({"mark-1": "Noted: mark-2."})),
    "an intent without an outcome": ("pair", lambda f: outcomes(f, f"{OTHER}.1")),
    "an outcome written twice": ("pair", lambda f: outcomes(f, f"{OTHER}.1", "engine_refused", "engine_refused")),
    "an outcome without an intent": ("pair", lambda f: f.intents.subtract([f"{OTHER}.1"])),
    "a prompt in the engine before its intent": ("engine_before_intent", lambda f: f.began.update(["req_2"])),
    "an answer the engine never gave": ("answer_from_nowhere", lambda f: f.finished.subtract(["req_1"])),
    "an answer recorded as unknown": ("answer_without_record", lambda f: outcomes(f, "req_1", "unknown")),
    "a stream that ended without a word": ("silent_truncation", lambda f: line(f, act="truncated", mark="mark-4")),
    "a clinician given another's text": ("foreign_text", lambda f: f.ledger[3].update(own=False)),
    "a 500": ("refusal", lambda f: f.ledger[4].update(status=500)),
    "a 503 that does not say when": ("no_retry_after", lambda f: f.ledger[4].update(retry_after=None)),
    "a missing number in a shard": ("shard_gap", lambda f: f.shards.__setitem__(2, (2, 1, 3))),  # type: ignore[index]  # a dict here
    "a counter ahead of its records": ("ledger_counter", lambda f: setattr(f, "ledger_counter", (1, 9))),
    "a log that does not verify": ("audit_not_whole", lambda f: setattr(f, "verdict", {"ok": False})),
}


@pytest.mark.parametrize("what", BROKEN)
def test_each_broken_promise_is_a_fault(what: str) -> None:
    code, break_ = BROKEN[what]
    facts = whole()
    break_(facts)
    assert code in {fault.code for fault in check(facts)}
