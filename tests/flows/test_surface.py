"""The surface on the whole box, with real vLLM: what official clients ask for, answered by the model that was approved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from inference.policy.catalog import TASKS
from provisioning.evaluation import request
from tests.box import Box
from tests.waiting import until

TALK = {"task": "conversation", "purpose": "TREAT"}
LETTER = {"task": "prior_auth_letter", "purpose": "TREAT"}
LOOK_UP: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look a diagnosis code up.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "maxLength": 8}},
            "required": ["code"],
            "additionalProperties": False,
        },
    },
}
URGENCY: dict[str, Any] = {
    "type": "object",
    "properties": {"urgency": {"enum": ["emergency", "urgent", "routine"]}},
    "required": ["urgency"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def key(box: Box) -> str:
    wanted = {
        "name": "ward-agent", "title": "Ward agent", "owner": "ward 7", "tasks": list(TASKS), "purposes": ["TREAT", "HOPERAT"],
        "lane": "interactive", "phi": True, "features": ["json_schema", "logprobs", "tools"], "tools": ["look_up"],
    }  # fmt: skip
    return box.manage("create_client", "--actor", "erin", stdin=json.dumps(wanted)).strip()


@pytest.fixture
def client(box: Box, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{box.api_url}/v1", api_key=key, max_retries=0, timeout=120) as made:
        until(lambda: _knows(made), 10, "the door knows the key")
        yield made


def _knows(client: openai.OpenAI) -> bool:
    try:
        return bool(client.models.list().data)
    except openai.AuthenticationError:
        return False


def talk(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": "What is I10?"}],
        metadata=TALK,
        temperature=0,
        max_tokens=48,
        **more,
    )


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look_up"}}])
def test_a_tool_call_has_the_tools_name_and_arguments_of_its_schema(client: openai.OpenAI, choice: Any) -> None:
    (found,) = talk(client, tools=[LOOK_UP], tool_choice=choice).choices
    assert found.finish_reason == "tool_calls"
    (call,) = found.message.tool_calls
    assert call.function.name == "look_up"
    assert set(json.loads(call.function.arguments)) == {"code"}


def test_an_answer_is_held_to_the_callers_schema(client: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "urgency", "schema": URGENCY}}
    answer = json.loads(talk(client, response_format=wanted).choices[0].message.content)
    assert answer["urgency"] in URGENCY["properties"]["urgency"]["enum"]


def test_log_probabilities_come_for_each_token(client: openai.OpenAI) -> None:
    answer = talk(client, logprobs=True, top_logprobs=2)
    found = answer.choices[0].logprobs.content
    assert len(found) == answer.usage.completion_tokens
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in found)
    assert "".join(token.token for token in found).strip().startswith(answer.choices[0].message.content.strip()[:10])


def test_a_bare_prompt_and_a_response_are_answered_with_their_receipts(client: openai.OpenAI) -> None:
    bare = client.completions.create(model="default", prompt="The patient", max_tokens=4, extra_body={"metadata": TALK})
    assert bare.model_extra is not None
    assert bare.model_extra["receipt"]["task"] == "conversation"
    events = list(
        client.responses.create(model="default", input="What is I10?", metadata=TALK, max_output_tokens=8, stream=True)
    )
    assert events[0].type == "response.created"
    assert events[-1].type in {"response.completed", "response.incomplete"}


def test_a_record_becomes_a_checked_draft_that_is_explained_and_decided(
    box: Box, client: openai.OpenAI, key: str
) -> None:
    body = {"record": request.RECORD, "purpose": "TREAT", "max_tokens": 320, "temperature": 0}
    status, draft = request.call(box.site.api, "POST", "/v1/tasks/prior_auth_letter", key=key, body=body)
    assert status == 200
    assert draft["draft"] is True
    assert "E11.9" in draft["text"]
    request_id = draft["receipt"]["request_id"]
    status, explained = request.call(box.site.api, "GET", f"/v1/explain/{request_id}", key=key)
    assert status == 200
    assert sorted(box.summary["approvers"]) == sorted(_names(explained))
    assert request.call(box.site.api, "GET", f"/v1/explain/{request_id}", key=box.api_key)[0] == 404
    verdict = {"request_id": request_id, "decision": "accepted"}
    assert request.call(box.site.api, "POST", "/v1/decisions", key=key, body=verdict)[0] in {200, 201}
    assert request.call(box.site.api, "POST", "/v1/decisions", key=key, body=verdict)[0] == 409


def _names(explained: dict[str, Any]) -> list[str]:
    """Whoever is named as an approver anywhere in an explanation."""
    found: list[str] = []
    for name, value in explained.items():
        if name == "approvers":
            found += [item if isinstance(item, str) else item["approver"] for item in value]
        elif isinstance(value, dict):
            found += _names(value)
    return found


def test_a_batch_of_clinical_records_is_answered_by_the_model_line_by_line(client: openai.OpenAI) -> None:
    records = [
        {"language": language, "department": department, "date": "2026-12-03", "time": time}
        for language, department, time in (
            ("en", "cardiology", "09:30"),
            ("es", "radiology", "14:00"),
            ("en", "eye", "8:15"),
        )
    ]
    lines = [
        {
            "custom_id": f"case-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "default",
                "messages": [{"role": "user", "content": json.dumps(record)}],
                "metadata": {"task": "appointment_reminder", "purpose": "HOPERAT"},
                "max_tokens": 120,
                "temperature": 0,
            },
        }
        for number, record in enumerate(records)
    ]
    lines.append({**lines[0], "custom_id": "bad", "body": {"model": "default"}})
    content = "\n".join(json.dumps(line) for line in lines).encode()
    sent = client.files.create(file=("cases.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=sent.id, endpoint="/v1/chat/completions", completion_window="24h")
    done = until(lambda: (b := client.batches.retrieve(batch.id)).status == "completed" and b, 120, "the batch is done")
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (len(records), 1)
    rows = [json.loads(line) for line in client.files.content(done.output_file_id or "").text.splitlines()]
    assert {row["custom_id"] for row in rows} == {f"case-{number}" for number in range(len(records))}
    assert all("artificial" in row["response"]["body"]["choices"][0]["message"]["content"] for row in rows)
    (error,) = [json.loads(line) for line in client.files.content(done.error_file_id or "").text.splitlines()]
    assert error["custom_id"] == "bad"
