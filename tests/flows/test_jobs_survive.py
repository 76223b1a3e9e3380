"""Accepted jobs on the whole box: whatever is killed or emptied, each is answered, once."""

from __future__ import annotations

import http.client
import json
import os
import signal
from typing import Any

import psutil
import pytest

from tests.box import Box
from tests.waiting import until

LABELS = {"task": "visit_summary", "purpose": "TREAT"}


def exchange(box: Box, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    wire = http.client.HTTPConnection("127.0.0.1", box.layout.api_port, timeout=30)
    try:
        sent = {"Authorization": f"Bearer {box.api_key}", "Content-Type": "application/json", **headers}
        wire.request(method, path, None if body is None else json.dumps(body), sent)
        answer = wire.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        wire.close()


def submit(box: Box, number: int, *, tokens: int = 60) -> str:
    record = {"age": 20 + number, "sex": "male", "diagnoses": ["asthma"], "codes": ["J45.909"], "medications": []}
    request = {
        "model": "default",
        "messages": [{"role": "user", "content": json.dumps(record)}],
        "metadata": LABELS,
        "max_tokens": tokens,
        "temperature": 0,
    }
    status, body = exchange(box, "POST", "/v1/jobs", {"request": request})
    assert status == 202, body
    return str(body["id"])


def state(box: Box, ref: str) -> str:
    return str(exchange(box, "GET", f"/v1/jobs/{ref}")[1]["state"])


def assert_each_answered_once(box: Box, refs: list[str], seconds: float) -> None:
    until(lambda: all(state(box, ref) == "succeeded" for ref in refs), seconds, f"all of {len(refs)} jobs succeed")
    for ref in refs:
        status, body = exchange(box, "GET", f"/v1/jobs/{ref}")
        assert status == 200
        assert body["result"]["choices"][0]["message"]["content"]
        rows = box.sql(
            "SELECT request_id, kind, outcome FROM audit_record WHERE request_id LIKE %s AND kind IN"
            " ('intent', 'outcome') ORDER BY at_us",
            [f"{ref}.%"],
        )
        attempts = {row[0] for row in rows}
        # One intent and one outcome for each attempt, and one attempt that was answered.
        assert len(rows) == 2 * len(attempts), rows
        assert [row[2] for row in rows].count("ok") == 1, rows


def test_a_job_is_answered_with_a_receipt_and_only_its_id_travels(box: Box) -> None:
    ref = submit(box, 1)
    assert_each_answered_once(box, [ref], 60)
    _, body = exchange(box, "GET", f"/v1/jobs/{ref}")
    assert body["result"]["receipt"]["release_digest"] == box.summary["release_digest"]
    assert body["result"]["receipt"]["request_id"] == f"{ref}.1"
    read = box.sql("SELECT count(*) FROM audit_record WHERE action = 'job.read' AND target = %s", [ref])
    assert int(read[0][0]) >= 1


def test_a_thousand_repeats_of_one_key_are_one_job(box: Box) -> None:
    record = {"age": 44, "sex": "female", "diagnoses": ["asthma"]}
    request = {
        "model": "default",
        "messages": [{"role": "user", "content": json.dumps(record)}],
        "metadata": LABELS,
        "max_tokens": 8,
    }
    header = {"Idempotency-Key": "visit-4711"}
    refs = {exchange(box, "POST", "/v1/jobs", {"request": request}, **header)[1]["id"] for _ in range(50)}
    assert len(refs) == 1
    status, body = exchange(box, "POST", "/v1/jobs", {"request": {**request, "max_tokens": 9}}, **header)
    assert (status, body["error"]["code"]) == (409, "idempotency_conflict")
    status, body = exchange(box, "POST", "/v1/jobs", {"request": request}, **{"Idempotency-Key": "x" * 300})
    assert (status, body["error"]["code"]) == (400, "invalid_idempotency_key")
    assert_each_answered_once(box, list(refs), 60)


def test_kill_9_of_the_worker_in_the_middle_of_jobs_loses_none_and_repeats_none(box: Box) -> None:
    refs = [submit(box, number, tokens=200) for number in range(6)]
    until(lambda: any(state(box, ref) == "running" for ref in refs), 30, "a job is running")
    pid = box.pid("worker")
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    for member in family:
        os.kill(member, signal.SIGKILL)
    box.wait_restarted("worker", pid)
    assert_each_answered_once(box, refs, 120)


def test_kill_9_of_the_engine_in_the_middle_of_jobs_makes_them_wait_and_loses_none(box: Box) -> None:
    refs = [submit(box, 30 + number, tokens=200) for number in range(4)]
    until(lambda: any(state(box, ref) == "running" for ref in refs), 30, "a job is running")
    (slot,) = box.sql("SELECT slot FROM releases_deployment WHERE state = 'serving'")[0]
    for member in psutil.Process(box.pid(f"keeper-{slot}")).children(recursive=True):
        member.kill()
    # The keeper verifies every byte and starts it again, which takes most of a minute here.
    assert_each_answered_once(box, refs, 280)


@pytest.mark.parametrize("again", [1, 2])
def test_flushall_with_jobs_accepted_loses_none(box: Box, again: int) -> None:
    box.stop("worker")
    refs = [submit(box, 10 * again + number) for number in range(5)]
    box.flush_redis()
    box.start("worker")
    assert_each_answered_once(box, refs, 90)


def test_jobs_are_accepted_without_redis_and_answered_when_it_is_back(box: Box) -> None:
    box.stop("redis")
    try:
        refs = [submit(box, 80 + number) for number in range(3)]
        assert [state(box, ref) for ref in refs] == ["queued"] * 3
    finally:
        box.start("redis")
    assert_each_answered_once(box, refs, 120)


def test_a_job_is_not_accepted_without_postgresql_and_accepted_ones_survive_it(box: Box) -> None:
    refs = [submit(box, 90 + number) for number in range(3)]
    box.stop_postgres()
    try:
        status, body = exchange(box, "POST", "/v1/jobs", {"request": {"model": "default"}})
        assert status in {400, 503}
        request = {
            "model": "default",
            "messages": [{"role": "user", "content": '{"age": 50}'}],
            "metadata": LABELS,
        }
        status, body = exchange(box, "POST", "/v1/jobs", {"request": request})
        assert (status, body["error"]["code"]) in {(503, "database_unavailable"), (503, "rights_stale")}
    finally:
        box.start_postgres()
    until(lambda: exchange(box, "GET", "/v1/models")[0] == 200, 30, "the API is back")
    assert_each_answered_once(box, refs, 120)
