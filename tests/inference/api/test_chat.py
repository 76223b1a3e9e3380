"""`POST /v1/chat/completions` through the real process: what is answered, what is sent on, what is put on record."""

from __future__ import annotations

import json
import socket
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from appliance.audit import services as audit
from appliance.changes.models import Change
from inference.policy.catalog import DISCLOSURE
from inference.releases.models import Deployment
from tests.simulators import lan as lans
from tests.simulators.engine import HOSTILE
from tests.simulators.lan import MODEL, RECORD, Lan
from tests.waiting import until


def client(lan: Lan) -> openai.OpenAI:
    return openai.OpenAI(base_url=lan.url, api_key=lan.key, max_retries=0, timeout=20)


def messages() -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": json.dumps(RECORD)}]


def pair(request_id: str) -> list[dict[str, Any]]:
    return lans.audit_rows(f"request_id = '{request_id}' AND kind IN ('intent', 'outcome')")


def test_the_official_client_gets_an_answer_with_its_receipt(lan: Lan) -> None:
    answer = client(lan).chat.completions.create(
        model=MODEL, messages=messages(), metadata={"task": "progress_note", "purpose": "TREAT"}
    )
    assert answer.choices[0].message.content == "The patient is well."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 15
    assert answer.model_extra is not None
    receipt = answer.model_extra["receipt"]
    assert receipt["release_digest"] == lans.DIGEST
    assert receipt["ai_generated"] is True
    assert receipt["dropped_fields"] == []
    intent, outcome = pair(receipt["request_id"])
    assert receipt["audit"] == {"shard": intent["shard"], "seq": intent["seq"]}
    assert (intent["kind"], outcome["kind"], outcome["outcome"]) == ("intent", "outcome", "ok")
    assert (outcome["input_tokens"], outcome["output_tokens"]) == (11, 4)


def test_the_official_client_streams_unchanged_with_usage_and_receipt_on_the_last_chunk(lan: Lan) -> None:
    stream = client(lan).chat.completions.create(
        model="default",
        messages=messages(),
        stream=True,
        stream_options={"include_usage": True},
        metadata={"task": "progress_note", "purpose": "TREAT"},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "The patient is well."
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["receipt"]["task"] == "progress_note"
    assert {chunk.model for chunk in chunks} == {MODEL}
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_without_usage_carries_the_receipt_on_the_finish_and_nothing_internal(lan: Lan) -> None:
    reply = lan.chat(stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert b"INTERNAL" not in reply.body
    *events, done, _ = reply.body.split(b"\n\n")
    assert done == b"data: [DONE]"
    last = json.loads(events[-1].removeprefix(b"data: "))
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["receipt"]["request_id"] == reply.headers["x-request-id"]


def test_the_engine_sees_the_minimized_record_and_our_own_priority_and_salt(lan: Lan) -> None:
    record = {"plan": "rest", "patient_name": "Canary", "age": 71, "lab": {"k": 1}, "lab_values": {"inr": 2}}
    reply = lan.chat(record=record)
    assert reply.json["receipt"]["dropped_fields"] == ["lab", "patient_name"]
    (seen,) = lan.engine.seen
    assert seen.fields["messages"][1]["content"] == '{"age": 71, "lab_values": {"inr": 2}, "plan": "rest"}'
    assert seen.fields["priority"] == 0
    assert len(seen.fields["cache_salt"]) == 64
    (intent, _) = pair(reply.headers["x-request-id"])
    assert json.loads(intent["detail"])["dropped"] == ["lab", "patient_name"]


def test_two_clients_never_share_a_cache_salt_and_one_client_keeps_its_own(lan: Lan) -> None:
    other = lans.new_key("bedside", lane="stat")
    until(lambda: lan.ask("GET", "/v1/models", key=other).status == 200, 10, "the second key is known")
    lan.chat()
    lan.chat()
    lan.ask("POST", "/v1/chat/completions", lans.chat_body(), key=other)
    first, again, second = (seen.fields for seen in lan.engine.seen)
    assert first["cache_salt"] == again["cache_salt"] != second["cache_salt"]
    assert (first["priority"], second["priority"]) == (0, -10)


def test_a_number_reaches_the_engine_as_the_client_wrote_it(lan: Lan) -> None:
    body = lans.chat_body()
    body["messages"][0]["content"] = '{"age": 71, "lab_values": {"inr": 1.20, "k": 4.0, "crp": 1e2}}'
    assert lan.ask("POST", "/v1/chat/completions", body).status == 200
    content = lan.engine.seen[0].fields["messages"][1]["content"]
    assert content == '{"age": 71, "lab_values": {"inr": 1.20, "k": 4.0, "crp": 1e2}}'


@pytest.mark.parametrize("behave", [name for name in HOSTILE if not name.startswith(("hang", "endless_answer"))])
def test_a_broken_engine_is_never_a_silent_success(lan: Lan, behave: str) -> None:
    lan.engine.behave = behave
    whole = lan.chat()
    assert whole.status == {"too_long": 400, "context_length": 400}.get(behave, 502)
    assert b"INTERNAL" not in whole.body
    assert pair(whole.headers["x-request-id"])[1]["outcome"] == HOSTILE[behave]
    streamed = lan.chat(stream=True)
    assert b"[DONE]" not in streamed.body
    assert b'"code": "%s"' % HOSTILE[behave].encode() in streamed.body


def test_the_official_client_raises_when_a_stream_breaks_off(lan: Lan) -> None:
    lan.engine.behave = "close_in_the_middle"
    stream = client(lan).chat.completions.create(
        model=MODEL, messages=messages(), stream=True, metadata={"task": "progress_note", "purpose": "TREAT"}
    )
    with pytest.raises(openai.APIError):
        list(stream)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_that_leaves_stops_the_engine_and_is_on_record_with_the_tokens_spent(
    lan: Lan, streaming: bool
) -> None:
    lan.engine.tokens, lan.engine.pause_s = ("x ",) * 200, 0.05
    body = json.dumps(lans.chat_body(stream=streaming)).encode()
    with socket.create_connection(("127.0.0.1", lan.port)) as wire:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {lan.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        wire.sendall(head.encode() + body)
        until(lambda: lan.engine.seen, 5, "the engine has the request")
        if streaming:
            wire.recv(1000)
    until(lambda: lan.engine.seen[0].cut, 2, "the engine was hung up on")
    (outcome,) = until(
        lambda: lans.audit_rows(f"client = '{lan.client}' AND outcome = 'client_gone'"), 5, "the outcome is on record"
    )
    assert outcome["kind"] == "outcome"
    assert outcome["output_tokens"] < 200


def test_no_released_model_is_a_503_and_nothing_is_asked(lan: Lan) -> None:
    (serving,) = Deployment.objects.filter(state=Deployment.State.SERVING)
    before = len(lan.engine.seen)
    Deployment.objects.update(state=Deployment.State.DRAINING, drain_from="2026-01-01T00:00:00Z")
    lans.tell_the_doors()
    try:
        until(lambda: lan.ask("GET", "/v1/models").json["data"] == [], 5, "the API noticed")
        reply = lan.chat()
        assert (reply.status, reply.code) == (503, "no_model")
        assert "retry-after" in reply.headers
        assert lan.ask("GET", "/v1/status", key="").json["reasons"] == ["no_model"]
        assert len(lan.engine.seen) == before
    finally:
        serving.save()
        lans.tell_the_doors()


def test_a_task_that_no_approved_change_routes_is_refused_and_nothing_is_asked(lan: Lan) -> None:
    (change,) = Change.objects.filter(state=Change.State.EXECUTED)
    routed = dict(change.facts["routes"])
    change.facts = {**change.facts, "routes": {**routed, "progress_note": "another-model"}}
    change.save()
    lans.tell_the_doors()
    try:
        until(lambda: lan.chat().status == 400, 5, "the API noticed")
        assert lan.chat().code == "task_not_routed"
        before = len(lan.engine.seen)
        assert lan.chat().status == 400
        assert len(lan.engine.seen) == before
    finally:
        change.facts = {**change.facts, "routes": routed}
        change.save()
        lans.tell_the_doors()
    until(lambda: lan.chat().status == 200, 5, "the route is back")


def test_a_draft_with_a_code_nobody_gave_is_stopped_and_on_record_whole_and_streamed(lan: Lan) -> None:
    lan.engine.tokens = ("Bronchitis (J20.9), ", "diabetes (E11", ".9).")
    whole = lan.chat()
    assert (whole.status, whole.code) == (502, "draft_refused")
    assert b"E11" not in whole.body
    assert pair(whole.headers["x-request-id"])[1]["outcome"] == "draft_refused"
    streamed = lan.chat(stream=True)
    assert b'"code": "draft_refused"' in streamed.body
    assert b"receipt" not in streamed.body
    assert b"[DONE]" not in streamed.body


def test_a_draft_says_what_it_was_held_against(lan: Lan) -> None:
    lan.engine.tokens = ("Bronchitis.",)
    assert lan.chat().json["receipt"]["checks"] == {"passed": ["codes"], "missing_codes": 1}


@pytest.mark.parametrize("streaming", [True, False])
def test_what_a_patient_reads_ends_with_the_disclosure_that_is_on_record_too(lan: Lan, streaming: bool) -> None:
    reply = lan.chat(
        record={"language": "es", "topic": "resultados"},
        metadata={"task": "patient_message", "purpose": "TREAT"},
        stream=streaming,
    )
    assert DISCLOSURE["es"].encode() in reply.body
    (_, outcome) = pair(reply.headers["x-request-id"])
    told = f"{''.join(lan.engine.tokens)}\n\n{DISCLOSURE['es']}"
    assert outcome["answer_hmac"] == audit.fingerprint(told.encode())[1]


def test_features_that_are_not_granted_are_refused_each_with_its_code(lan: Lan) -> None:
    tool = {"type": "function", "function": {"name": "look_up"}}
    talk: dict[str, Any] = {
        "messages": [{"role": "user", "content": "x"}],
        "metadata": {"task": "conversation", "purpose": "TREAT"},
    }
    for extra in ({"tools": [tool]}, {"logprobs": True}, {"response_format": {"type": "json_object"}}):
        reply = lan.chat(**talk, **extra)
        assert (reply.status, reply.code) == (403, "feature_not_granted")
    assert lan.chat(**talk).status == 200
