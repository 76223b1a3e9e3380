"""`/v1/files` and `/v1/batches` with the official client, unchanged, against the real process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import redis
from django.conf import settings
from openai import OpenAI

import appliance.celery  # noqa: F401 - this process rings too
from inference.api import expanding, files
from inference.queue import rules, selectors, services
from inference.queue.models import Batch, File, FilePiece, Job
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


@pytest.fixture
def client(lan: Lan, store: redis.Redis) -> Iterator[OpenAI]:
    with OpenAI(base_url=lan.url, api_key=lan.key, max_retries=0) as made:
        yield made


def line(number: int, **changes: Any) -> bytes:
    body = chat_body(record={"age": number, "plan": f"rest {CANARY}", "patient_name": CANARY}, **changes)
    return json.dumps(
        {"custom_id": f"visit-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    ).encode()


def jsonl(*lines: bytes, end: bytes = b"\n") -> bytes:
    return b"".join(each + end for each in lines)


def upload(client: OpenAI, content: bytes) -> str:
    return client.files.create(file=("night.jsonl", content), purpose="batch").id


def begin(client: OpenAI, content: bytes, **more: Any) -> Any:
    return client.batches.create(
        input_file_id=upload(client, content), endpoint="/v1/chat/completions", completion_window="24h", **more
    )


def read(ref: str) -> None:
    expanding.expand(ref)


def work(ref: str) -> None:
    read(ref)
    bench = Bench.here()
    bench.runner.run(bench.turn(ref, 0))
    bench.close()


def output(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(each) for each in client.files.content(file_id).text.splitlines()]


def test_a_batch_from_upload_to_answers(client: OpenAI, lan: Lan) -> None:
    content = jsonl(*(line(n) for n in range(1, 6)))
    stored = client.files.create(file=("night.jsonl", content), purpose="batch")
    assert (stored.object, stored.bytes, stored.filename, stored.purpose) == (
        "file",
        len(content),
        "night.jsonl",
        "batch",
    )
    assert client.files.content(stored.id).read() == content
    batch = client.batches.create(
        input_file_id=stored.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "night"}
    )
    assert (batch.status, batch.input_file_id, batch.metadata) == ("validating", stored.id, {"run": "night"})
    assert batch.request_counts is not None
    assert batch.request_counts.total == 5
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    work(batch.id)
    done = client.batches.retrieve(batch.id)
    assert (done.status, done.completed_at is not None, done.error_file_id) == ("completed", True, None)
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (5, 0)
    rows = output(client, done.output_file_id)
    assert [row["custom_id"] for row in rows] == [f"visit-{n}" for n in range(1, 6)]
    answer = rows[0]["response"]
    assert (answer["status_code"], rows[0]["error"]) == (200, None)
    assert answer["body"]["choices"][0]["message"]["content"] == "The patient is well."
    assert answer["body"]["receipt"]["dropped_fields"] == ["patient_name"]
    assert answer["request_id"] == answer["body"]["receipt"]["request_id"]
    assert done.output_file_id is not None
    assert client.files.retrieve(done.output_file_id).purpose == "batch_output"


def test_a_line_with_tools_and_logprobs_is_answered_as_a_request_of_its_own(client: OpenAI, lan: Lan) -> None:
    key = lans.new_key_with(f"{lan.client}-t", features=["tools", "logprobs"], tools=["look_up"])
    until(lambda: lan.ask("GET", "/v1/models", key=key).status == 200, 10, "the key is known")
    function = {"name": "look_up", "parameters": {"type": "object", "properties": {"drug": {"type": "string"}}}}
    asked = chat_body(
        messages=[{"role": "user", "content": "Dose?"}], metadata={"task": "conversation", "purpose": "TREAT"},
        tools=[{"type": "function", "function": function}], logprobs=True,
    )  # fmt: skip
    lan.engine.tokens = ('{"tool": "look_up", ', '"arguments": {"drug": "amoxicillin"}}')
    now = lan.ask("POST", "/v1/chat/completions", asked, key=key).json["choices"][0]
    one = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": asked}).encode()
    with OpenAI(base_url=lan.url, api_key=key, max_retries=0) as able:
        batch = begin(able, jsonl(one))
        work(batch.id)
        (row,) = output(able, able.batches.retrieve(batch.id).output_file_id)
    later = row["response"]["body"]["choices"][0]
    assert later["message"]["tool_calls"][0].pop("id").startswith("call_")
    del now["message"]["tool_calls"][0]["id"]
    assert now["message"]["tool_calls"][0]["function"]["name"] == "look_up"
    assert len(now["logprobs"]["content"]) == 2
    assert later == now


def test_the_receipt_of_a_line_says_what_the_answer_was_held_against(client: OpenAI, lan: Lan) -> None:
    batch = begin(client, jsonl(line(1)))
    work(batch.id)
    (row,) = output(client, client.batches.retrieve(batch.id).output_file_id)
    checks = lan.chat().json["receipt"]["checks"]
    assert checks is not None
    assert row["response"]["body"]["receipt"]["checks"].keys() == checks.keys()


def test_files_are_listed_page_by_page_and_deleted(client: OpenAI, lan: Lan) -> None:
    refs = [upload(client, jsonl(line(n))) for n in range(5)]
    assert [each.id for each in client.files.list(limit=2)] == refs[::-1]
    assert [each.id for each in client.files.list(purpose="batch")] == refs[::-1]
    assert client.files.delete(refs[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(refs[0])
    with pytest.raises(openai.NotFoundError):
        client.files.content(refs[0])
    assert len(list(client.files.list())) == 4
    actions = [row["action"] for row in lans.audit_rows(f"target = '{refs[0]}'")]
    assert actions == ["file.stored", "file.deleted"]
    assert not FilePiece.objects.filter(file__ref=refs[0]).exists()


def test_batches_are_listed_and_one_that_waits_is_cancelled(client: OpenAI, lan: Lan) -> None:
    ids = [begin(client, jsonl(line(n))).id for n in range(3)]
    read(ids[0])
    assert [each.id for each in client.batches.list(limit=2)] == ids[::-1]
    assert client.batches.cancel(ids[0]).status == "cancelling"
    services.end_batches(actor="sweep")
    gone = client.batches.retrieve(ids[0])
    assert (gone.status, gone.cancelled_at is not None) == ("cancelled", True)
    (row,) = output(client, gone.error_file_id)
    assert (row["custom_id"], row["response"], row["error"]["code"]) == ("visit-0", None, "cancelled")
    with pytest.raises(openai.ConflictError) as ended:
        client.batches.cancel(ids[0])
    assert ended.value.code == "batch_finished"


def test_bad_lines_are_objects_in_the_error_file_and_the_others_are_answered(client: OpenAI, lan: Lan) -> None:
    content = jsonl(
        line(1),
        b"{not json",
        line(1),
        b'{"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "default"}}',
        line(5, stream=True),
        line(6, model="gpt-4"),
        line(7, metadata={"task": "progress_note"}),
        b"",
        line(9, priority=-1),
        json.dumps({"custom_id": "y", "method": "GET", "url": "/v1/models", "body": {}}).encode(),
        line(11, messages=[{"role": "user", "content": "x" * rules.LONGEST_LINE}]),
        line(12),
    )
    batch = begin(client, content)
    work(batch.id)
    done = client.batches.retrieve(batch.id)
    assert done.status == "completed"
    assert [row["custom_id"] for row in output(client, done.output_file_id)] == ["visit-1", "visit-12"]
    found = [(r["error"]["line"], r["custom_id"], r["error"]["code"]) for r in output(client, done.error_file_id)]
    assert found == [
        (2, None, "invalid_json"),
        (3, "visit-1", "duplicate_custom_id"),
        (4, "x", "missing_field"),
        (5, "visit-5", "out_of_range"),
        (6, "visit-6", "model_not_found"),
        (7, "visit-7", "purpose_required"),
        (9, "visit-9", "unknown_field"),
        (10, "y", "out_of_range"),
        (11, None, "line_too_long"),
    ]
    rows = output(client, done.error_file_id)
    assert rows[6]["response"]["status_code"] == 400
    assert rows[6]["response"]["body"]["error"]["param"] == "body.priority"


def test_lines_that_end_as_windows_ends_them_are_lines(client: OpenAI, lan: Lan) -> None:
    batch = begin(client, jsonl(line(1), line(2), end=b"\r\n"))
    work(batch.id)
    assert client.batches.retrieve(batch.id).request_counts.completed == 2  # type: ignore[union-attr]  # shown above


@pytest.mark.parametrize("size", [1, 1000, rules.PIECE])
def test_lines_are_whole_wherever_the_pieces_of_a_file_are_cut(client: OpenAI, lan: Lan, size: int) -> None:
    content = jsonl(line(1), b"", line(2)) + line(3)
    if size > 1:
        content *= max(1, 2 * size // len(content))
    ref = upload(client, content)
    found = b"\n".join(raw or b"?" for _, raw in selectors.file_lines(client=lan.client, ref=ref))
    assert found == b"\n".join(each for each in content.split(b"\n") if each)


def test_another_clients_file_and_batch_do_not_exist(client: OpenAI, lan: Lan) -> None:
    batch = begin(client, jsonl(line(1)))
    work(batch.id)
    done = client.batches.retrieve(batch.id)
    other = lans.new_key(f"{lan.client}-neighbour")
    until(lambda: lan.ask("GET", "/v1/models", key=other).status == 200, 10, "the neighbour's key is known")
    for method, path in (
        ("GET", f"/v1/files/{batch.input_file_id}"),
        ("GET", f"/v1/files/{batch.input_file_id}/content"),
        ("DELETE", f"/v1/files/{batch.input_file_id}"),
        ("GET", f"/v1/files/{done.output_file_id}"),
        ("GET", f"/v1/files/{done.output_file_id}/content"),
        ("DELETE", f"/v1/files/{done.output_file_id}"),
        ("GET", f"/v1/batches/{batch.id}"),
        ("POST", f"/v1/batches/{batch.id}/cancel"),
    ):
        missing = path.replace(batch.id.removeprefix("batch_"), "0" * 24)
        missing = missing.replace(batch.input_file_id.removeprefix("file-"), "0" * 24)
        stolen, none = lan.ask(method, path, key=other), lan.ask(method, missing, key=other)
        assert (stolen.status, stolen.code) == (none.status, none.code) == (404, stolen.code), path
    assert lan.ask("GET", "/v1/files", key=other).json["data"] == []
    assert lan.ask("GET", "/v1/batches", key=other).json["data"] == []
    body = {"input_file_id": batch.input_file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert lan.ask("POST", "/v1/batches", body, key=other).code == "file_not_found"
    assert not Batch.objects.filter(client=f"{lan.client}-neighbour").exists()


def test_reading_a_file_is_on_record_and_its_output_can_be_deleted(client: OpenAI, lan: Lan) -> None:
    batch = begin(client, jsonl(line(1)))
    assert lan.ask("DELETE", f"/v1/files/{files.output_id(batch.id, 'output')}").code == "file_in_use"
    work(batch.id)
    ref = client.batches.retrieve(batch.id).output_file_id
    output(client, ref)
    assert len(lans.audit_rows(f"action = 'file.read' AND target = '{ref}' AND client = '{lan.client}'")) == 1
    assert ref is not None
    assert client.files.delete(ref).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(ref)
    assert not Job.objects.filter(batch__ref=batch.id).exists()
    assert client.batches.retrieve(batch.id).request_counts.completed == 1  # type: ignore[union-attr]  # its counts stay


def test_one_idempotency_key_is_one_batch(client: OpenAI, lan: Lan) -> None:
    body = {
        "input_file_id": upload(client, jsonl(line(1))), "endpoint": "/v1/chat/completions", "completion_window": "24h"
    }  # fmt: skip
    header = {"Idempotency-Key": "night-1"}
    first, again = (lan.ask("POST", "/v1/batches", body, headers=header).json["id"] for _ in range(2))
    assert first == again
    conflict = lan.ask("POST", "/v1/batches", {**body, "metadata": {"a": "b"}}, headers=header)
    assert (conflict.status, conflict.code) == (409, "idempotency_conflict")
    assert (
        lan.ask("POST", "/v1/batches", body, headers={"Idempotency-Key": "x" * 300}).code == "invalid_idempotency_key"
    )
    assert Batch.objects.filter(client=lan.client).count() == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"endpoint": "/v1/responses"}, "out_of_range"),
        ({"completion_window": "7d"}, "out_of_range"),
        ({"metadata": {"a": 1}}, "wrong_type"),
        ({"metadata": {"a" * 65: "b"}}, "out_of_range"),
        ({"priority": 1}, "unknown_field"),
        ({"input_file_id": None}, "missing_field"),
    ],
)
def test_a_body_that_is_no_batch_is_refused(client: OpenAI, lan: Lan, changes: Any, code: str) -> None:
    body = {
        "input_file_id": "file-" + "0" * 24,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        **changes,
    }
    reply = lan.ask("POST", "/v1/batches", body)
    assert (reply.status, reply.code) == (400, code)


FORM = {"Content-Type": "multipart/form-data; boundary=cut"}


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--cut\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


FILE = part("file", b"{}\n", '; filename="a.jsonl"')
PURPOSE = part("purpose", b"batch")
END = b"--cut--\r\n"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (FILE + END, 400, "missing_field"),
        (PURPOSE + END, 400, "missing_field"),
        (part("purpose", b"fine-tune") + FILE + END, 400, "out_of_range"),
        (FILE + part("purpose", b"fine-tune") + END, 400, "out_of_range"),
        (PURPOSE + FILE + part("path", b"/etc/passwd") + END, 400, "unknown_field"),
        (PURPOSE + PURPOSE + FILE + END, 400, "duplicate_key"),
        (PURPOSE + FILE + FILE + END, 400, "duplicate_key"),
        (PURPOSE + FILE, 400, "wrong_type"),
        (PURPOSE + part("file", b"", '; filename="a"') + END, 400, "missing_field"),
        (b"not a form at all", 400, "wrong_type"),
        (b"", 400, "wrong_type"),
        (part("purpose", b"b" * 10_000) + FILE + END, 400, "out_of_range"),
        (PURPOSE + part("file", b"\n" * (rules.MOST_LINES + 1), '; filename="a"') + END, 400, "too_many_lines"),
    ],
)
def test_a_form_that_is_none_of_ours_is_refused_and_nothing_is_kept(
    client: OpenAI, lan: Lan, body: bytes, status: int, code: str
) -> None:
    reply = lan.ask("POST", "/v1/files", body, headers=FORM)
    assert (reply.status, reply.code) == (status, code)
    assert not File.objects.filter(client=lan.client).exists()


def test_a_file_that_is_too_large_is_refused_before_it_is_whole_and_nothing_is_kept(client: OpenAI, lan: Lan) -> None:
    declared = lan.ask("POST", "/v1/files", b"", headers={**FORM, "Content-Length": str(rules.LARGEST_FILE * 2)})
    assert (declared.status, declared.code) == (413, "body_too_large")
    assert not File.objects.filter(client=lan.client).exists()


def test_a_client_has_an_end_of_what_it_may_store(client: OpenAI, lan: Lan) -> None:
    File.objects.create(ref="file-" + "1" * 24, client=lan.client, name=b"", size=rules.MOST_STORED)
    with pytest.raises(openai.RateLimitError) as full:
        upload(client, jsonl(line(1)))
    assert full.value.code == "storage_full"


def test_nothing_of_a_file_is_readable_at_rest(client: OpenAI, lan: Lan, store: redis.Redis) -> None:
    content = jsonl(line(1))
    ref = client.files.create(file=(f"{CANARY}.jsonl", content), purpose="batch").id
    batch = begin(client, content)
    until(lambda: store.llen("batches"), 5, "the bell was rung")
    read(batch.id)
    stored = [*File.objects.values(), *FilePiece.objects.values(), *Batch.objects.values(), *Job.objects.values()]
    kept = b"".join(bytes(v) for row in stored for v in row.values() if isinstance(v, memoryview))
    assert b"Quimby" not in kept + repr(stored).encode() + repr(lans.audit_rows()).encode() + lan.log.read_bytes()
    assert client.files.retrieve(ref).filename == f"{CANARY}.jsonl"
    until(lambda: store.llen("slices"), 5, "the next bell was rung")
    assert b"Quimby" not in b"".join(store.dump(key) or b"" for key in store.keys("*"))


def test_batches_are_accepted_while_redis_is_away(client: OpenAI, lan: Lan, redis_server: Any) -> None:
    ref = upload(client, jsonl(line(1)))
    redis_server.stop()
    try:
        batch = client.batches.create(input_file_id=ref, endpoint="/v1/chat/completions", completion_window="24h")
        read(batch.id)
        assert Job.objects.filter(batch__ref=batch.id, state="queued").count() == 1
    finally:
        redis_server.start()


def test_jobs_are_listed_with_their_place_in_the_line_and_an_ended_one_is_deleted(
    client: OpenAI, lan: Lan, store: redis.Redis
) -> None:
    refs = [lan.ask("POST", "/v1/jobs", {"request": chat_body()}).json["id"] for _ in range(3)]
    batch = begin(client, jsonl(line(1), line(2)))
    read(batch.id)
    page = lan.ask("GET", "/v1/jobs?limit=2").json
    assert ([job["id"] for job in page["data"]], page["has_more"]) == (refs[:0:-1], True)
    places = [job["position"] for job in page["data"]]
    assert places[0] == places[1] + 1
    rest = lan.ask("GET", f"/v1/jobs?limit=2&after={page['last_id']}").json
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (refs[:1], False)
    assert rest["data"][0]["position"] == places[1] - 1
    assert len(lan.ask("GET", f"/v1/jobs?batch={batch.id}&state=queued").json["data"]) == 2
    assert lan.ask("DELETE", f"/v1/jobs/{refs[0]}").code == "job_unfinished"
    lan.ask("POST", f"/v1/jobs/{refs[0]}/cancel")
    assert [job["id"] for job in lan.ask("GET", "/v1/jobs?state=cancelled").json["data"]] == [refs[0]]
    assert lan.ask("DELETE", f"/v1/jobs/{refs[0]}").json == {"id": refs[0], "object": "job", "deleted": True}
    assert lan.ask("GET", f"/v1/jobs/{refs[0]}").code == "job_not_found"
