"""`/v1/jobs` through the real process: accepted before the 202, rung for by id alone, read only by its own client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings

from inference.queue.models import Job
from inference.queue.tasks import Bench
from tests.simulators import lan as lans
from tests.simulators.lan import Lan, chat_body
from tests.waiting import until

CANARY = "Quimby Zarathustra"


@pytest.fixture
def store(redis_server: object) -> Iterator[redis.Redis]:
    made = redis.Redis(unix_socket_path=str(settings.SITE.redis_socket))
    made.flushall()
    yield made
    made.close()


def submit(lan: Lan, *, headers: dict[str, str] | None = None, **changes: Any) -> lans.Reply:
    return lan.ask("POST", "/v1/jobs", {"request": chat_body(**changes)}, headers=headers)


def test_a_job_is_committed_with_its_record_before_the_202_and_only_its_id_travels(
    lan: Lan, store: redis.Redis
) -> None:
    reply = submit(lan, record={"age": 71, "plan": CANARY, "patient_name": CANARY})
    assert (reply.status, reply.json["state"]) == (202, "queued")
    ref = reply.json["id"]
    assert Job.objects.get(ref=ref).state == "queued"
    (accepted,) = lans.audit_rows(f"action = 'job.accepted' AND target = '{ref}'")
    assert json.loads(accepted["detail"])["dropped"] == ["patient_name"]
    assert accepted["request_id"] == reply.headers["x-request-id"]
    raw = until(lambda: store.lindex("jobs", 0), 5, "the bell was rung")
    assert isinstance(raw, bytes)
    message = json.loads(raw)
    arguments = json.loads(base64.b64decode(message["body"]))[0]
    assert arguments == [ref]
    everything = b"".join(store.dump(key) or b"" for key in store.keys("*"))
    assert b"Quimby" not in everything + base64.b64decode(message["body"]) + raw


def test_a_result_is_read_by_its_own_client_only_and_each_reading_is_on_record(lan: Lan, store: redis.Redis) -> None:
    ref = submit(lan).json["id"]
    assert lan.ask("GET", f"/v1/jobs/{ref}").json["position"] >= 1
    bench = Bench.here()
    bench.runner.run(bench.attempt(ref))
    bench.close()
    found = lan.ask("GET", f"/v1/jobs/{ref}").json
    assert (found["state"], found["position"]) == ("succeeded", None)
    assert found["result"]["choices"][0]["message"]["content"] == "The patient is well."
    assert found["result"]["receipt"]["request_id"] == f"{ref}.1"
    assert len(lans.audit_rows(f"action = 'job.read' AND target = '{ref}' AND client = '{lan.client}'")) == 1
    other = lans.new_key(f"{lan.client}-neighbour")
    until(lambda: lan.ask("GET", "/v1/models", key=other).status == 200, 10, "the neighbour's key is known")
    stolen = lan.ask("GET", f"/v1/jobs/{ref}", key=other)
    missing = lan.ask("GET", "/v1/jobs/job_" + "0" * 24, key=other)
    assert (stolen.status, stolen.code) == (missing.status, missing.code) == (404, "job_not_found")
    assert lan.ask("POST", f"/v1/jobs/{ref}/cancel", key=other).code == "job_not_found"
    assert lan.ask("POST", f"/v1/jobs/{ref}/cancel").code == "job_finished"


def test_a_waiting_job_can_be_cancelled(lan: Lan, store: redis.Redis) -> None:
    ref = submit(lan).json["id"]
    assert lan.ask("POST", f"/v1/jobs/{ref}/cancel").json["state"] == "cancelled"
    assert lan.ask("GET", f"/v1/jobs/{ref}").json["error"] == {"code": "cancelled"}


def test_one_idempotency_key_is_one_job(lan: Lan, store: redis.Redis) -> None:
    header = {"Idempotency-Key": "visit-4711"}
    first, again = submit(lan, headers=header), submit(lan, headers=header)
    assert first.json["id"] == again.json["id"]
    conflict = submit(lan, headers=header, max_tokens=7)
    assert (conflict.status, conflict.code) == (409, "idempotency_conflict")
    assert conflict.headers["x-should-retry"] == "false"
    long = submit(lan, headers={"Idempotency-Key": "x" * 300})
    assert (long.status, long.code) == (400, "invalid_idempotency_key")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"metadata": {"task": "progress_note"}}, 400, "purpose_required"),
        ({"record": {"name": "x"}}, 400, "record_empty"),
        ({"model": "gpt-4"}, 404, "model_not_found"),
        ({"stream": True}, 400, "out_of_range"),
        ({"record": {"plan": "<|im_end|>"}}, 400, "special_token_in_content"),
    ],
)
def test_what_would_not_be_answered_is_not_accepted(
    lan: Lan, store: redis.Redis, changes: Any, status: int, code: str
) -> None:
    reply = submit(lan, **changes)
    assert (reply.status, reply.code) == (status, code)
    assert not Job.objects.filter(client=lan.client).exists()


def test_jobs_are_accepted_while_redis_is_away(lan: Lan, redis_server: Any) -> None:
    redis_server.stop()
    try:
        reply = submit(lan)
        assert reply.status == 202
        assert Job.objects.filter(ref=reply.json["id"], state="queued").exists()
    finally:
        redis_server.start()


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "state=running;drop", "owner=other", "limit=1&limit=2", "after=%00"]
)
def test_a_query_that_is_none_of_ours_is_refused(lan: Lan, query: str) -> None:
    assert lan.ask("GET", f"/v1/jobs?{query}").status == 400
