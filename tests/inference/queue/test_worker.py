"""Real Celery processes: killed, emptied of messages, frozen. The engine is the stand-in; real vLLM is in tests/flows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest
import redis
from django.conf import settings

import appliance.celery  # noqa: F401 - this process rings too
from inference.policy.rules import Rights
from inference.queue import selectors, services, tasks
from tests.inference.queue import test_batches as batches
from tests.inference.queue.test_jobs import pairs, submit
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn
from tests.waiting import until

QUEUES = "jobs,batches,slices,maintenance"


@contextmanager
def celery(log: Path, *arguments: str) -> Iterator[psutil.Process]:
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "appliance.celery", *arguments],
            cwd=lans.ROOT,
            env=lans.app_environment(),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    found = psutil.Process(process.pid)
    try:
        yield found
    finally:
        for member in family(found):
            member.kill()
        process.wait()


def worker(folder: Path) -> AbstractContextManager[psutil.Process]:
    options = ["-Q", QUEUES, "-c", "2", "--without-mingle", "--without-gossip", "-l", "warning"]
    return celery(folder / "worker.log", "worker", *options)


def beat(folder: Path) -> AbstractContextManager[psutil.Process]:
    return celery(folder / "beat.log", "beat", "--schedule", str(folder / "beat"), "--pidfile", "")


def family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def store(redis_server: object) -> Iterator[redis.Redis]:
    made = redis.Redis(unix_socket_path=str(settings.SITE.redis_socket))
    made.flushall()
    yield made
    made.close()


def states(rights: Rights, refs: list[str]) -> set[str]:
    return {selectors.of_client(client=rights.client, ref=ref).job.state for ref in refs}


def assert_each_answered_once(rights: Rights, refs: list[str], seconds: float) -> None:
    until(lambda: states(rights, refs) == {"succeeded"}, seconds, "every job succeeds")
    for ref in refs:
        records = pairs(ref)
        kinds = [kind for _, kind, _ in records]
        assert kinds == ["intent", "outcome"] * (len(kinds) // 2), records
        assert [outcome for _, _, outcome in records].count("ok") == 1, records


def test_a_worker_killed_in_the_middle_loses_no_job_and_answers_none_twice(
    rights: Rights, engine: EngineStandIn, store: redis.Redis, tmp_path: Path
) -> None:
    engine.tokens, engine.pause_s = ("word ",) * 20, 0.1
    with beat(tmp_path):
        with worker(tmp_path) as first:
            refs = [submit(rights).ref for _ in range(4)]
            until(lambda: engine.now == 2, 60, "two jobs are in the engine")
            for member in family(first):
                member.kill()
        until(lambda: sum(seen.cut for seen in engine.seen) == 2, 5, "the engine was hung up on twice")
        with worker(tmp_path):
            assert_each_answered_once(rights, refs, 90)
    unknown = [record for ref in refs for record in pairs(ref) if record[2] == "unknown"]
    assert len(unknown) == 2


def test_messages_lost_with_redis_cost_seconds_and_no_job(
    rights: Rights, engine: EngineStandIn, store: redis.Redis, tmp_path: Path
) -> None:
    refs = [submit(rights).ref for _ in range(5)]
    store.flushall()
    with beat(tmp_path), worker(tmp_path):
        assert_each_answered_once(rights, refs, 90)
    assert len(engine.seen) == 5


def test_a_worker_that_was_frozen_past_its_lease_records_nothing(
    rights: Rights, engine: EngineStandIn, store: redis.Redis, tmp_path: Path
) -> None:
    engine.tokens, engine.pause_s = ("word ",) * 20, 0.1
    with beat(tmp_path), worker(tmp_path) as first:
        ref = submit(rights).ref
        until(lambda: engine.now == 1, 60, "the job is in the engine")
        frozen = family(first)
        for member in frozen:
            os.kill(member.pid, signal.SIGSTOP)
        with worker(tmp_path):
            until(lambda: states(rights, [ref]) == {"succeeded"}, 90, "another worker answered it")
            before = pairs(ref)
            for member in frozen:
                os.kill(member.pid, signal.SIGCONT)
            until(lambda: engine.now == 0, 30, "the first engine call has ended")
            # Whatever the thawed worker still does, it can only do after its last renewal failed.
            until(lambda: "job_lease_lost" in (tmp_path / "worker.log").read_text(), 30, "it noticed")
        assert pairs(ref) == before
    assert [outcome for _, _, outcome in before] == ["started", "unknown", "started", "ok"]


def test_a_worker_that_is_asked_to_stop_finishes_what_it_has(
    rights: Rights, engine: EngineStandIn, store: redis.Redis, tmp_path: Path
) -> None:
    engine.tokens, engine.pause_s = ("word ",) * 20, 0.1
    with worker(tmp_path) as first:
        ref = submit(rights).ref
        tasks.ring(ref)
        until(lambda: engine.now == 1, 60, "the job is in the engine")
        first.send_signal(signal.SIGTERM)
        first.wait(30)
    assert states(rights, [ref]) == {"succeeded"}
    assert services.sweep(actor="sweep") == ()


def test_a_worker_killed_in_the_middle_of_a_batch_loses_no_line_and_records_no_answer_twice(
    rights: Rights, engine: EngineStandIn, store: redis.Redis, tmp_path: Path
) -> None:
    engine.pause_s = 0.05
    with beat(tmp_path):
        ref = batches.submit(rights, batches.lines(60))
        for done in (10, 30):
            with worker(tmp_path) as killed:
                until(lambda most=done: batches.counts(rights, ref)[1] >= most, 60, "some lines are answered")  # type: ignore[misc]  # bound now
                until(lambda: engine.now, 10, "lines are in the engine")
                for member in family(killed):
                    member.kill()
            assert batches.view(rights, ref).state == "in_progress"
        with worker(tmp_path):
            until(lambda: batches.view(rights, ref).state == "completed", 90, "the batch ends")
    assert batches.counts(rights, ref) == (60, 60, 0)
    found = batches.records(ref)
    assert {tuple(kind for kind, _ in pair) for pair in found.values()} == {("intent", "outcome")}
    ends = [pair[1][1] for pair in found.values()]
    assert ends.count("ok") == 60
    assert set(ends) == {"ok", "unknown"}
    answered = [request_id.partition(".")[0] for request_id, pair in found.items() if pair[1][1] == "ok"]
    assert len(set(answered)) == 60


def test_a_batch_whose_messages_were_lost_with_redis_is_done_all_the_same(
    rights: Rights, engine: EngineStandIn, store: redis.Redis, tmp_path: Path
) -> None:
    ref = batches.submit(rights, batches.lines(300))
    store.flushall()
    with beat(tmp_path), worker(tmp_path):
        until(lambda: batches.counts(rights, ref)[1] >= 20, 60, "some lines are answered")
        store.flushall()
        until(lambda: batches.view(rights, ref).state == "completed", 90, "the batch ends")
    assert batches.counts(rights, ref) == (300, 300, 0)
    assert len(engine.seen) == 300
