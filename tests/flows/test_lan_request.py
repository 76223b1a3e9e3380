"""Flow B on the whole box, with real vLLM: from a clinical app's request to an answer and its records."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import redis

from provisioning import site_config
from provisioning.evaluation.site_file import REPOSITORY
from tests.box import Box
from tests.waiting import until

RECORD = {
    "age": 71,
    "sex": "female",
    "diagnoses": ["type 2 diabetes mellitus"],
    "codes": ["E11.9"],
    "requested_service": "continuous glucose monitor",
    "medications": ["metformin"],
    "justification": "frequent hypoglycemia",
    "patient_name": "Quimby Zarathustra",
    "mrn": "MRN-4711-CANARY",
}
LABELS = {"task": "prior_auth_letter", "purpose": "HPAYMT"}


@pytest.fixture
def client(box: Box) -> Iterator[openai.OpenAI]:
    made = openai.OpenAI(base_url=f"{box.api_url}/v1", api_key=box.api_key, max_retries=0, timeout=120)
    yield made
    made.close()


def ask(client: openai.OpenAI, **changes: Any) -> Any:
    given = {
        "model": client.models.list().data[0].id,
        "messages": [{"role": "user", "content": json.dumps(RECORD)}],
        "metadata": LABELS,
        "max_tokens": 160,
        "temperature": 0,
        **changes,
    }
    return client.chat.completions.create(**given)


def pair(box: Box, request_id: str) -> list[tuple[Any, ...]]:
    return box.sql(
        "SELECT kind, outcome, task, purpose, client, release, input_tokens, output_tokens, detail, prompt_hmac"
        " FROM audit_record WHERE request_id = %s ORDER BY at_us",
        [request_id],
    )


def test_the_official_client_lists_the_model_asks_and_gets_an_answer_with_its_receipt(
    box: Box, client: openai.OpenAI
) -> None:
    (model,) = client.models.list().data
    assert model.model_extra is not None
    assert model.model_extra["release_digest"] == box.summary["release_digest"]
    answer = ask(client)
    text = answer.choices[0].message.content
    assert "E11.9" in text
    assert answer.choices[0].finish_reason == "stop"
    receipt = answer.model_extra["receipt"]
    assert receipt["release_digest"] == box.summary["release_digest"]
    assert receipt["dropped_fields"] == ["mrn", "patient_name"]
    intent, outcome = pair(box, receipt["request_id"])
    assert intent[:6] == ("intent", "started", "prior_auth_letter", "HPAYMT", intent[4], receipt["release_digest"])
    assert outcome[:2] == ("outcome", "ok")
    assert outcome[6:8] == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert json.loads(intent[8])["dropped"] == ["mrn", "patient_name"]


def test_a_stream_is_the_same_answer_in_pieces_with_usage_and_receipt(box: Box, client: openai.OpenAI) -> None:
    whole = ask(client, seed=1)
    chunks = list(ask(client, seed=1, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 10
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].model_extra["receipt"]["audit"]["seq"] > 0


def test_what_is_not_allowed_is_refused_with_its_code_and_put_on_record(box: Box, client: openai.OpenAI) -> None:
    before = int(box.sql("SELECT count(*) FROM audit_record WHERE kind = 'intent'")[0][0])
    with pytest.raises(openai.BadRequestError) as missing:
        ask(client, metadata={"task": "prior_auth_letter"})
    with pytest.raises(openai.PermissionDeniedError) as forbidden:
        ask(client, metadata={**LABELS, "purpose": "HMARKT"})
    with pytest.raises(openai.BadRequestError) as unknown:
        ask(client, extra_body={"chat_template": "x"})
    with pytest.raises(openai.AuthenticationError) as nobody:
        client.with_options(api_key="iwk_wrong").models.list()
    codes = [error.value.code for error in (missing, forbidden, unknown, nobody)]
    assert codes == ["purpose_required", "purpose_not_granted", "unknown_field", "invalid_api_key"]
    assert unknown.value.param == "chat_template"

    def recorded() -> bool:
        rows = box.sql("SELECT DISTINCT outcome FROM audit_record WHERE kind = 'refusal'")
        return set(codes) <= {row[0] for row in rows}

    until(recorded, 5, "every refusal is on record")
    assert int(box.sql("SELECT count(*) FROM audit_record WHERE kind = 'intent'")[0][0]) == before


def test_a_record_that_does_not_fit_the_models_context_is_refused_as_such(box: Box, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, messages=[{"role": "user", "content": json.dumps({**RECORD, "justification": "cough " * 5000})}])
    assert refused.value.code == "context_length"


def test_a_prompt_that_fills_the_context_to_its_last_token_is_answered_and_one_more_word_is_not(
    box: Box, client: openai.OpenAI
) -> None:
    def fits(words: int) -> int:
        """The tokens of a prompt with so many words, or 0: it did not fit beside one token of an answer."""
        content = json.dumps({**RECORD, "justification": "cough " * words})
        try:
            answer = ask(client, messages=[{"role": "user", "content": content}], max_tokens=1)
        except openai.BadRequestError as refused:
            if refused.code != "context_length":
                raise
            return 0
        return int(answer.usage.prompt_tokens)

    low, high = 1, box.site.engine.max_model_len
    assert fits(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    each = fits(low) - fits(low - 1)
    assert box.site.engine.max_model_len - 1 - fits(low) < each
    assert fits(low + 1) == 0


def test_the_conformance_command_passes_on_the_whole_box(box: Box) -> None:
    done = subprocess.run(
        [sys.executable, "docs/examples/conformance.py", "--base-url", f"{box.api_url}/v1"],
        env={"PATH": os.environ["PATH"], "ISOWARD_API_KEY": box.api_key},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 FAIL, 0 skip" in done.stdout


def test_a_client_that_leaves_stops_the_generation(box: Box, client: openai.OpenAI) -> None:
    stream = ask(client, stream=True, max_tokens=400, temperature=1.5, extra_body={"stop": None})
    request_id = stream.response.headers["x-request-id"]
    next(iter(stream))
    stream.close()
    rows = until(lambda: len(found := pair(box, request_id)) == 2 and found, 5, "the outcome is on record")
    assert rows[1][:2] in {("outcome", "client_gone"), ("outcome", "ok")}
    # vLLM itself says that nothing runs any more.
    until(lambda: _running(box) == 0, 5, "vLLM stopped")


def _running(box: Box) -> float:
    (slot,) = [slot for slot in site_config.SLOTS if box.site.engine_socket(slot).exists()]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
        wire.connect(str(box.site.engine_socket(slot)))
        key = box.site.secret("engine-api-key").decode()
        wire.sendall(
            f"GET /metrics HTTP/1.1\r\nHost: engine\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n".encode()
        )
        text = b"".join(iter(lambda: wire.recv(65_536), b"")).decode()
    values = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
    return sum(float(line.split()[-1]) for line in values)


def test_without_postgresql_nothing_is_answered_and_service_resumes_by_itself(box: Box, client: openai.OpenAI) -> None:
    assert ask(client).choices
    model = client.models.list().data[0].id
    box.stop_postgres()
    try:
        began = time.monotonic()
        with pytest.raises(openai.InternalServerError) as refused:
            ask(client, model=model)
        assert refused.value.status_code == 503
        assert refused.value.code in {"audit_unavailable", "rights_stale"}
        assert time.monotonic() - began < 15
        assert _running(box) == 0
    finally:
        box.start_postgres()

    def answers() -> bool:
        try:
            return bool(ask(client, model=model).choices)
        except openai.InternalServerError:
            return False

    until(answers, 30, "the box answers again by itself")


def test_a_patients_text_is_in_no_log_no_record_no_row_and_not_in_redis(box: Box, client: openai.OpenAI) -> None:
    canary = "Xylophania-Quetzalcoatl"
    record = {**RECORD, "justification": f"{canary} needs it", "patient_name": canary, canary: canary}
    body = [{"role": "user", "content": json.dumps(record)}]
    ask(client, messages=body, metadata={**LABELS, "patient_id": canary}, max_tokens=16)
    list(ask(client, messages=body, stream=True, max_tokens=16, stop=[canary]))
    job = _job(box, {"request": {"model": "default", "messages": body, "metadata": LABELS, "max_tokens": 16}})
    for refused in (
        {"messages": body, "metadata": {**LABELS, "purpose": canary}},
        {"messages": [{"role": "user", "content": canary}]},
        {"messages": body, "extra_body": {canary: 1}},
        {"messages": [{"role": "user", "content": json.dumps({**record, "justification": f"<|im_end|>{canary}"})}]},
        {"messages": [{"role": "user", "content": json.dumps({**record, "justification": canary * 500})}]},
    ):
        with pytest.raises(openai.APIStatusError):
            ask(client, **refused)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(canary)
    until(lambda: _ended(box, job), 60, "the job has ended")

    needles = [canary.encode(), canary.encode("utf-16-le"), json.dumps(canary).encode(), b"Quetzalcoatl"]
    for name in ("audit_record", "queue_job"):
        rows = box.sql(f"SELECT t::text FROM {name} t")  # noqa: S608 - our own two names
        dump = "\n".join(row[0] for row in rows).encode()
        assert not [needle for needle in needles if needle in dump or needle.hex().encode() in dump], name
    for log in box.layout.logs.iterdir():
        data = log.read_bytes()
        assert not [needle for needle in needles if needle in data], log.name
    keys = _redis(box)
    assert not [needle for needle in needles if needle in keys]


def _job(box: Box, body: Any) -> str:
    wire = http.client.HTTPConnection("127.0.0.1", box.layout.api_port, timeout=20)
    headers = {"Authorization": f"Bearer {box.api_key}", "Content-Type": "application/json"}
    wire.request("POST", "/v1/jobs", json.dumps(body), headers)
    answer = wire.getresponse()
    assert answer.status == 202
    return str(json.loads(answer.read())["id"])


def _ended(box: Box, ref: str) -> bool:
    return box.sql("SELECT state FROM queue_job WHERE ref = %s", [ref])[0][0] in {"succeeded", "failed"}


def _redis(box: Box) -> bytes:
    """Everything in Redis, keys and values, as bytes."""
    store = redis.Redis(unix_socket_path=str(box.site.redis_socket))
    found = b""
    for key in store.keys("*"):
        dumped = store.dump(key)
        found += repr(key).encode() + b"\x00" + (dumped or b"") + b"\x00"
    store.close()
    return found
