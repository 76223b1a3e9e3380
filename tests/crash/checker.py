"""Do the four witnesses agree? Pure: facts in, one sentence per disagreement out.

Written from the promises, not from the code: an accepted job is there and ends, once; everything that reached the
engine was on record first, and everything on record has exactly one end; no number of the log is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.crash.facts import Batch, Facts, Job, key_hash

ENDED = frozenset({"succeeded", "failed", "cancelled"})
# What a client may be told while parts are down. A 500 is a bug, whatever was killed.
REFUSALS = frozenset({200, 429, 502, 503, 504})


@dataclass(frozen=True)
class Fault:
    """One broken promise."""

    code: str
    what: str


def check(facts: Facts) -> list[Fault]:
    """Every broken promise, worst first."""
    return [fault for rule in RULES for fault in rule(facts)]


def lost(facts: Facts) -> Iterator[Fault]:
    """0 accepted jobs lost: each is a row, is its client's, and has ended; a batch has all its lines."""
    kept: dict[str, Job | Batch] = {**facts.jobs, **facts.batches}
    for line in facts.ledger:
        if line["act"] == "given_up":
            yield Fault("never_acknowledged", f"{line['mark']}: no answer under one idempotency key")
        if line["act"] != "accepted":
            continue
        row = kept.get(line["ref"])
        if row is None:
            yield Fault("job_lost", f"{line['ref']} was accepted and is not in the queue")
        elif row.key_hash != key_hash(line["mark"]):
            yield Fault("job_foreign", f"{line['ref']} belongs to another idempotency key")
    for job in facts.jobs.values():
        if job.state not in ENDED:
            yield Fault("job_unfinished", f"{job.ref} is still {job.state} after attempt {job.attempt}")
    lines = Counter(job.batch for job in facts.jobs.values())
    for batch in facts.batches.values():
        if not batch.ended:
            yield Fault("batch_unfinished", f"{batch.ref} has not ended")
        if lines[batch.row] != batch.total:
            yield Fault("line_lost", f"{batch.ref} has {lines[batch.row]} of its {batch.total} lines")


def twice(facts: Facts) -> Iterator[Fault]:
    """0 recorded twice: one job per key, one acceptance each, one run per attempt."""
    refs: dict[str, set[str]] = {}
    for line in facts.ledger:
        if line["act"] == "accepted":
            refs.setdefault(line["mark"], set()).add(line["ref"])
    for mark, found in refs.items():
        if len(found) > 1:
            yield Fault("job_twice", f"{mark} became {sorted(found)}")
    alone = [job.ref for job in facts.jobs.values() if job.batch is None]
    for ref in (*alone, *facts.batches):
        if facts.acceptances[ref] != 1:
            yield Fault("acceptance_records", f"{ref} has {facts.acceptances[ref]} records of its acceptance")
    for name, times in facts.began.items():
        if times > 1:
            yield Fault("engine_twice", f"{name} reached the engine {times} times")


def answers(facts: Facts) -> Iterator[Fault]:
    """A job that succeeded was answered once, with its own text; one that did not was not answered."""
    oks: dict[str, int] = {}
    for request_id, outcomes in facts.outcomes.items():
        ref, _, attempt = request_id.rpartition(".")
        job = facts.jobs.get(ref)
        oks[ref] = oks.get(ref, 0) + outcomes.count("ok")
        if job is not None and not 1 <= int(attempt) <= job.attempt:
            yield Fault("attempt_unknown", f"{request_id}: the job counts {job.attempt} attempts")
    for job in facts.jobs.values():
        expected = 1 if job.state == "succeeded" else 0
        if oks.get(job.ref, 0) != expected:
            yield Fault("answer_records", f"{job.ref} {job.state} with {oks.get(job.ref, 0)} answers on record")
        if expected and not job.has_result:
            yield Fault("result", f"{job.ref} succeeded and its result is not kept")
    for mark, text in facts.texts.items():
        if mark not in text:
            yield Fault("foreign_text", f"{mark} was given a text that is not its own")


def pairs(facts: Facts) -> Iterator[Fault]:
    """0 audit gaps: one intent and one outcome each; nothing reached the engine or a client without them."""
    for request_id in facts.intents.keys() | facts.outcomes.keys():
        found = facts.intents[request_id], len(facts.outcomes.get(request_id, []))
        if found != (1, 1):
            yield Fault("pair", f"{request_id} has {found[0]} intents and {found[1]} outcomes")
    for request_id in facts.began:
        if not facts.intents[request_id]:
            yield Fault("engine_before_intent", f"{request_id} reached the engine and has no intent")
    for request_id, outcomes in facts.outcomes.items():
        if "ok" in outcomes and not facts.finished[request_id]:
            yield Fault("answer_from_nowhere", f"{request_id} is recorded as answered; the engine never finished it")
    for line in facts.ledger:
        if line["act"] == "answered" and facts.outcomes.get(line["id"]) != ["ok"]:
            yield Fault(
                "answer_without_record", f"{line['id']} was answered; recorded: {facts.outcomes.get(line['id'])}"
            )


def wire(facts: Facts) -> Iterator[Fault]:
    """What clients saw: only refusals of ours, a 503 with Retry-After, no foreign text, no silent end."""
    for line in facts.ledger:
        if line["act"] == "truncated":
            yield Fault("silent_truncation", f"the stream of {line['mark']} ended without saying how")
        if line["act"] == "answered" and not line["own"]:
            yield Fault("foreign_text", f"{line['id']} was given a text that is not its own")
        if line["act"] != "refused":
            continue
        if line["status"] not in REFUSALS:
            yield Fault("refusal", f"{line['kind']}: {line['status']} {line['code']}")
        if line["status"] in {429, 503} and line["retry_after"] is None:
            yield Fault("no_retry_after", f"{line['kind']}: {line['status']} {line['code']}")


def log_is_whole(facts: Facts) -> Iterator[Fault]:
    """Each shard counts 1, 2, 3 without a gap, the ledger's counter is its last number, and the seals verify."""
    for shard, (count, low, high) in facts.shards.items():
        if (low, high) != (1, count):
            yield Fault("shard_gap", f"shard {shard} holds {count} records numbered {low} to {high}")
    shard, last = facts.ledger_counter
    if facts.shards.get(shard, (0, 0, 0))[2] != last:
        yield Fault("ledger_counter", f"the ledger counted to {last}; its last record is {facts.shards.get(shard)}")
    if not facts.verdict.get("ok"):
        yield Fault("audit_not_whole", f"{facts.verdict.get('code')}: {facts.verdict.get('message')}")


RULES: tuple[Callable[[Facts], Iterator[Fault]], ...] = (lost, twice, answers, pairs, wire, log_is_whole)
