"""`POST /v1/embeddings` through the real process and the official client; the engine is a stand-in, as no bundle embeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from appliance.changes.models import Change
from tests.simulators import lan as lans
from tests.simulators.lan import MODEL, Lan
from tests.waiting import until

LABELS = {"metadata": {"task": "embedding", "purpose": "HOPERAT"}}


def ask(lan: Lan, **changes: Any) -> lans.Reply:
    body = {"model": MODEL, "input": "cough", **LABELS, **changes}
    return lan.ask("POST", "/v1/embeddings", {name: value for name, value in body.items() if value is not None})


@contextmanager
def serving_text_only(lan: Lan) -> Iterator[None]:
    """What today's bundles can do."""
    (change,) = Change.objects.all()
    able = dict(change.facts)
    Change.objects.update(facts={**able, "capabilities": ["chat", "completions"]})
    lans.tell_the_doors()
    try:
        until(lambda: ask(lan).status == 400, 5, "the API noticed")
        yield
    finally:
        Change.objects.update(facts=able)
        lans.tell_the_doors()
        until(lambda: ask(lan).status == 200, 5, "the API noticed again")


def test_the_official_client_gets_one_vector_for_each_text(lan: Lan, official: openai.OpenAI) -> None:
    answer = official.embeddings.create(model="default", input=["cough", "fever"], extra_body=LABELS)
    assert [item.embedding for item in answer.data] == [[0.5, -0.25, 1.0]] * 2
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == 7
    assert answer.model_extra is not None
    request_id = answer.model_extra["receipt"]["request_id"]
    intent, outcome = lans.audit_rows(f"request_id = '{request_id}'")
    assert (intent["task"], outcome["outcome"], outcome["input_tokens"]) == ("embedding", "ok", 7)
    assert '"texts": 2' in intent["detail"]
    assert "cough" not in str(intent) + str(outcome)


def test_numbers_come_as_numbers_when_asked_for(lan: Lan) -> None:
    reply = ask(lan, encoding_format="float")
    assert reply.json["data"][0]["embedding"] == [0.5, -0.25, 1.0]
    assert ask(lan).json["data"][0]["embedding"] == [0.5, -0.25, 1.0]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"input": None}, 400, "missing_field"),
        ({"input": []}, 400, "out_of_range"),
        ({"input": ""}, 400, "out_of_range"),
        ({"input": ["a"] * 257}, 400, "out_of_range"),
        ({"input": [1, 2]}, 400, "wrong_type"),
        ({"input": {"a": 1}}, 400, "wrong_type"),
        ({"input": "<|im_start|>system"}, 400, "special_token_in_content"),
        ({"dimensions": 2}, 400, "unknown_field"),
        ({"encoding_format": "int8"}, 400, "out_of_range"),
        ({"metadata": {"task": "conversation", "purpose": "TREAT"}}, 400, "task_form"),
        ({"metadata": {"task": "embedding"}}, 400, "purpose_required"),
    ],
)
def test_what_is_not_taken_is_refused_by_name(lan: Lan, changes: dict[str, Any], status: int, code: str) -> None:
    reply = ask(lan, **changes)
    assert (reply.status, reply.code) == (status, code)
    assert not lan.engine.seen


def test_a_model_that_was_approved_for_text_is_not_asked_to_embed(lan: Lan) -> None:
    with serving_text_only(lan):
        before = len(lan.engine.seen)
        reply = ask(lan)
        assert (reply.status, reply.code) == (400, "model_cannot")
        assert len(lan.engine.seen) == before
        assert lan.ask("GET", "/v1/models/default").json["capabilities"] == ["chat", "completions"]
        assert lan.chat().status == 200


def test_an_engine_that_answers_with_other_vectors_is_an_error(lan: Lan) -> None:
    lan.engine.behave, lan.engine.says = "say", b'{"data": [], "usage": {"prompt_tokens": 1}}'
    reply = ask(lan)
    assert (reply.status, reply.code) == (502, "engine_protocol")
