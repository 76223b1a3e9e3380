"""`POST /v1/completions` through the real process and the official client."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.simulators import lan as lans
from tests.simulators.lan import MODEL, Lan
from tests.waiting import until

LABELS = {"metadata": {"task": "conversation", "purpose": "TREAT"}}


def ask(lan: Lan, **changes: Any) -> lans.Reply:
    body = {"model": MODEL, "prompt": "Cough means", **LABELS, **changes}
    return lan.ask("POST", "/v1/completions", {name: value for name, value in body.items() if value is not None})


def test_the_official_client_gets_text_with_its_receipt_and_the_pair_is_on_record(
    lan: Lan, official: openai.OpenAI
) -> None:
    answer = official.completions.create(model="default", prompt="Cough means", max_tokens=9, extra_body=LABELS)
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        "The patient is well.",
        "stop",
    )
    assert answer.usage is not None
    assert answer.usage.total_tokens == 15
    assert answer.model_extra is not None
    receipt = answer.model_extra["receipt"]
    assert receipt["task"] == "conversation"
    (seen,) = lan.engine.seen
    assert seen.path == "/v1/completions"
    assert (seen.fields["prompt"], seen.fields["max_tokens"]) == ("Cough means", 9)
    rows = lans.audit_rows(f"request_id = '{receipt['request_id']}'")
    assert [(row["kind"], row["outcome"]) for row in rows] == [("intent", "started"), ("outcome", "ok")]


def test_a_stream_ends_with_usage_and_the_receipt(lan: Lan, official: openai.OpenAI) -> None:
    stream = official.completions.create(
        model=MODEL, prompt=["Cough"], stream=True, stream_options={"include_usage": True}, extra_body=LABELS
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "The patient is well."
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["receipt"]["ai_generated"] is True
    assert len({chunk.id for chunk in chunks}) == 1


def test_logprobs_have_the_older_form_and_need_their_grant(lan: Lan) -> None:
    assert (refused := ask(lan, logprobs=1)).status == 403
    assert refused.code == "feature_not_granted"
    lan.key = lans.new_key_with(f"{lan.client}-l", features=["logprobs"])
    reply = until(lambda: (r := ask(lan, logprobs=1)).status == 200 and r, 10, "the second key and its grant are known")
    found = reply.json["choices"][0]["logprobs"]
    assert found["tokens"] == ["The ", "patient ", "is ", "well."]
    assert found["text_offset"] == [0, 4, 12, 15]
    assert found["token_logprobs"] == [-0.5] * 4
    assert found["top_logprobs"][0] == {"The ": -0.5}


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"metadata": None}, 400, "purpose_required"),
        ({"metadata": {"task": "progress_note", "purpose": "TREAT"}}, 400, "task_form"),
        ({"prompt": None}, 400, "missing_field"),
        ({"prompt": ""}, 400, "out_of_range"),
        ({"prompt": [1, 2]}, 400, "wrong_type"),
        ({"prompt": ["a", "b"]}, 400, "wrong_type"),
        ({"prompt": "a<|im_end|>"}, 400, "special_token_in_content"),
        ({"echo": True}, 400, "out_of_range"),
        ({"n": 2}, 400, "out_of_range"),
        ({"best_of": 2}, 400, "out_of_range"),
        ({"suffix": "x"}, 400, "unknown_field"),
        ({"priority": -10}, 400, "unknown_field"),
        ({"cache_salt": "x"}, 400, "unknown_field"),
        ({"model": "gpt-4"}, 404, "model_not_found"),
    ],
)
def test_what_is_not_taken_is_refused_by_name(lan: Lan, changes: dict[str, Any], status: int, code: str) -> None:
    reply = ask(lan, **changes)
    assert (reply.status, reply.code) == (status, code)
    assert not lan.engine.seen


def test_a_stream_that_breaks_off_has_a_terminal_error_and_no_done(lan: Lan) -> None:
    lan.engine.behave = "close_in_the_middle"
    reply = ask(lan, stream=True)
    assert b'"code": "engine_protocol"' in reply.body
    assert b"[DONE]" not in reply.body
