"""`/v1/responses` through the real process and the official client: at once, streamed, with tools, in the background."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall, ResponseInputParam

from inference.queue.models import Job
from inference.queue.tasks import Bench
from tests.simulators import lan as lans
from tests.simulators.lan import MODEL, RECORD, Lan
from tests.waiting import until

LABELS = {"task": "conversation", "purpose": "TREAT"}
NOTE = {"task": "progress_note", "purpose": "TREAT"}
LOOK_UP: FunctionToolParam = {
    "type": "function",
    "name": "look_up",
    "description": "Looks a drug up",
    "parameters": {"type": "object", "properties": {"drug": {"type": "string"}}, "required": ["drug"]},
    "strict": True,
}
CALL = '{"tool": "look_up", "arguments": {"drug": "amoxicillin"}}'


def ask(lan: Lan, **changes: Any) -> lans.Reply:
    body = {"model": MODEL, "input": "Cough?", "metadata": LABELS, **changes}
    return lan.ask("POST", "/v1/responses", {name: value for name, value in body.items() if value is not None})


@pytest.fixture
def able(lan: Lan) -> openai.OpenAI:
    """A client that may offer a tool and ask for JSON."""
    lan.key = lans.new_key_with(f"{lan.client}-t", features=["tools", "json_schema"], tools=["look_up"])
    until(lambda: ask(lan, tools=[LOOK_UP]).status == 200, 10, "the key and its grants are known")
    lan.engine.seen.clear()
    return openai.OpenAI(base_url=lan.url, api_key=lan.key, max_retries=0, timeout=20)


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The data of each event; its `event:` line says the same type."""
    found = []
    for block in body.decode().strip().split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_the_official_client_gets_a_whole_response_with_its_receipt(lan: Lan, official: openai.OpenAI) -> None:
    found = official.responses.create(
        model="default", input="Cough?", instructions="Be brief.", max_output_tokens=50, metadata=LABELS, user="dr.lee"
    )
    assert (found.output_text, found.status, found.model) == ("The patient is well.", "completed", MODEL)
    assert (found.instructions, found.max_output_tokens, found.metadata) == ("Be brief.", 50, LABELS)
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (11, 4, 15)
    assert found.model_extra is not None
    receipt = found.model_extra["receipt"]
    assert receipt["ai_generated"] is True
    (seen,) = lan.engine.seen
    assert seen.fields["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Cough?"},
    ]
    rows = lans.audit_rows(f"request_id = '{receipt['request_id']}'")
    assert [(row["kind"], row["end_user"]) for row in rows] == [("intent", "dr.lee"), ("outcome", "dr.lee")]


def test_what_was_answered_can_be_sent_back_as_input(lan: Lan, official: openai.OpenAI) -> None:
    first = official.responses.create(model=MODEL, input="Cough?", metadata=LABELS)
    history: ResponseInputParam = [{"role": "user", "content": [{"type": "input_text", "text": "Cough?"}]}]
    history += first.output  # type: ignore[arg-type]  # as OpenAI's own guide does it
    history.append({"role": "user", "content": "And now?"})
    official.responses.create(model=MODEL, input=history, metadata=LABELS)
    assert lan.engine.seen[1].fields["messages"] == [
        {"role": "user", "content": "Cough?"},
        {"role": "assistant", "content": "The patient is well."},
        {"role": "user", "content": "And now?"},
    ]


def test_a_record_is_cut_to_its_task_here_too(lan: Lan, official: openai.OpenAI) -> None:
    record = json.dumps({**RECORD, "patient_name": "Canary"})
    found = official.responses.create(model=MODEL, input=record, metadata=NOTE)
    assert found.model_extra is not None
    assert found.model_extra["receipt"]["dropped_fields"] == ["patient_name"]
    assert "Canary" not in lan.engine.seen[0].body.decode()
    own = ask(lan, input=record, metadata=NOTE, instructions="Be brief.")
    assert (own.status, own.code) == (400, "out_of_range")


def test_a_stream_has_openais_events_in_their_order_and_the_receipt_at_the_end(lan: Lan) -> None:
    reply = ask(lan, stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert b"INTERNAL" not in reply.body
    events = events_of(reply.body)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 4,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(12))
    assert events[8]["text"] == "The patient is well."
    whole = events[-1]["response"]
    assert whole["receipt"]["request_id"] == reply.headers["x-request-id"]
    assert whole["usage"]["total_tokens"] == 15
    assert whole["id"] == events[0]["response"]["id"]


def test_the_official_stream_helper_puts_the_pieces_together(lan: Lan, official: openai.OpenAI) -> None:
    with official.responses.stream(model=MODEL, input="Cough?", metadata=LABELS) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == "The patient is well."


def test_an_answer_that_was_cut_is_incomplete_and_not_completed(lan: Lan, official: openai.OpenAI) -> None:
    lan.engine.finish = "length"
    found = official.responses.create(model=MODEL, input="Cough?", max_output_tokens=4, metadata=LABELS)
    assert found.status == "incomplete"
    assert found.incomplete_details is not None
    assert found.incomplete_details.reason == "max_output_tokens"
    assert events_of(ask(lan, stream=True).body)[-1]["type"] == "response.incomplete"


@pytest.mark.parametrize("behave", ["close_in_the_middle", "error_event", "aborted", "no_done"])
def test_a_stream_that_breaks_off_ends_with_failed_and_its_code(lan: Lan, official: openai.OpenAI, behave: str) -> None:
    lan.engine.behave = behave
    *_, last = official.responses.create(model=MODEL, input="Cough?", metadata=LABELS, stream=True)
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert str(last.response.error.code) in {"engine_protocol", "engine_failed"}
    body = ask(lan, stream=True).body
    assert b"INTERNAL" not in body
    assert b"receipt" not in body


def test_a_tool_is_called_and_its_result_goes_back(lan: Lan, able: openai.OpenAI) -> None:
    lan.engine.tokens = (CALL[:20], CALL[20:])
    first = able.responses.create(model=MODEL, input="Dose?", tools=[LOOK_UP], metadata=LABELS)
    (call,) = first.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, json.loads(call.arguments)) == ("look_up", {"drug": "amoxicillin"})
    assert lan.engine.seen[0].fields["structured_outputs"]["json"]["anyOf"][0]["properties"]["tool"] == {
        "const": "look_up"
    }
    lan.engine.tokens = ('{"answer": "500 mg"}',)
    history: ResponseInputParam = [{"role": "user", "content": "Dose?"}]
    history += first.output  # type: ignore[arg-type]  # as OpenAI's own guide does it
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "500 mg"})
    second = able.responses.create(model=MODEL, input=history, tools=[LOOK_UP], metadata=LABELS)
    assert second.output_text == "500 mg"
    told = [turn["content"] for turn in lan.engine.seen[1].fields["messages"][2:]]
    assert told == [CALL, "Result of look_up: 500 mg"]


def test_a_streamed_call_comes_as_openais_events(lan: Lan, able: openai.OpenAI) -> None:
    lan.engine.tokens = (CALL[:20], CALL[20:])
    with able.responses.stream(model=MODEL, input="Dose?", tools=[LOOK_UP], metadata=LABELS) as stream:
        kinds = [event.type for event in stream]
        (call,) = stream.get_final_response().output
    assert kinds[2:6] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"drug": "amoxicillin"}


def test_words_in_place_of_a_call_stream_as_text(lan: Lan, able: openai.OpenAI) -> None:
    lan.engine.tokens = ('{"answer": ', '"500 mg"}')
    with able.responses.stream(model=MODEL, input="Dose?", tools=[LOOK_UP], metadata=LABELS) as stream:
        assert stream.until_done().get_final_response().output_text == "500 mg"


def test_an_answer_is_held_to_a_schema(lan: Lan, able: openai.OpenAI) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"dose": {"type": "string"}}, "required": ["dose"]}
    lan.engine.tokens = ('{"dose": "500 mg"}',)
    found = able.responses.create(
        model=MODEL,
        input="Dose?",
        metadata=LABELS,
        text={"format": {"type": "json_schema", "name": "dose", "schema": schema, "strict": True}},
    )
    assert json.loads(found.output_text) == {"dose": "500 mg"}
    assert lan.engine.seen[0].fields["structured_outputs"] == {"json": schema}


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"metadata": None}, 400, "purpose_required"),
        ({"input": None}, 400, "missing_field"),
        ({"input": []}, 400, "out_of_range"),
        ({"input": 7}, 400, "wrong_type"),
        ({"input": [{"role": "user"}]}, 400, "missing_field"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, 400, "out_of_range"),
        ({"input": [{"type": "web_search_call"}]}, 400, "out_of_range"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, 400, "out_of_range"),
        ({"input": [{"role": "tool", "content": "x"}]}, 400, "out_of_range"),
        ({"input": "<|im_end|>"}, 400, "special_token_in_content"),
        ({"instructions": "<|im_end|>"}, 400, "special_token_in_content"),
        ({"tools": [{"type": "web_search"}]}, 400, "out_of_range"),
        ({"tools": [LOOK_UP]}, 403, "feature_not_granted"),
        ({"tools": [{"type": "function", "function": {"name": "look_up"}}]}, 400, "missing_field"),
        ({"text": {"format": {"type": "json_object"}}}, 403, "feature_not_granted"),
        ({"store": True}, 400, "out_of_range"),
        ({"background": True, "stream": True}, 400, "out_of_range"),
        ({"background": True, "tools": [LOOK_UP]}, 403, "feature_not_granted"),
        ({"truncation": "auto"}, 400, "out_of_range"),
        ({"previous_response_id": "resp_1"}, 400, "unknown_field"),
        ({"reasoning": {"effort": "high"}}, 400, "unknown_field"),
        ({"conversation": "conv_1"}, 400, "unknown_field"),
        ({"max_output_tokens": 0}, 400, "out_of_range"),
        ({"model": "gpt-4"}, 404, "model_not_found"),
    ],
)
def test_what_is_not_taken_is_refused_by_name(lan: Lan, changes: dict[str, Any], status: int, code: str) -> None:
    reply = ask(lan, **changes)
    assert (reply.status, reply.code) == (status, code)
    assert not lan.engine.seen


def test_background_work_is_a_job_and_is_read_by_its_own_client_only(lan: Lan, official: openai.OpenAI) -> None:
    begun = official.responses.create(model=MODEL, input="Cough?", metadata=LABELS, background=True, store=True)
    assert (begun.status, begun.background, begun.output) == ("queued", True, [])
    assert official.responses.retrieve(begun.id).status == "queued"
    ref = f"job_{begun.id.removeprefix('resp_')}"
    bench = Bench.here()
    bench.runner.run(bench.attempt(ref))
    bench.close()
    done = official.responses.retrieve(begun.id)
    assert (done.status, done.output_text, done.metadata) == ("completed", "The patient is well.", LABELS)
    assert done.model_extra is not None
    assert done.model_extra["receipt"]["request_id"] == f"{ref}.1"
    assert len(lans.audit_rows(f"action = 'job.read' AND target = '{ref}' AND client = '{lan.client}'")) == 1
    assert official.responses.cancel(begun.id).status == "completed"
    Job.objects.filter(ref=ref).update(result=None)  # its life is over
    with pytest.raises(openai.NotFoundError):
        official.responses.retrieve(begun.id)
    stranger = lans.new_key(f"{lan.client}-nb")
    until(lambda: lan.ask("GET", "/v1/models", key=stranger).status == 200, 10, "the neighbour's key is known")
    for method, path in (("GET", ""), ("POST", "/cancel")):
        stolen = lan.ask(method, f"/v1/responses/{begun.id}{path}", key=stranger)
        missing = lan.ask(method, f"/v1/responses/resp_{'0' * 24}{path}", key=stranger)
        assert (stolen.status, stolen.code) == (missing.status, missing.code) == (404, "response_not_found")


def test_a_call_in_the_background_is_a_call_when_it_is_read(lan: Lan, able: openai.OpenAI) -> None:
    begun = able.responses.create(model=MODEL, input="Dose?", tools=[LOOK_UP], metadata=LABELS, background=True)
    lan.engine.tokens = (CALL[:20], CALL[20:])
    bench = Bench.here()
    bench.runner.run(bench.attempt(f"job_{begun.id.removeprefix('resp_')}"))
    bench.close()
    (call,) = able.responses.retrieve(begun.id).output
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, json.loads(call.arguments)) == ("look_up", {"drug": "amoxicillin"})


def test_waiting_work_is_cancelled(lan: Lan, official: openai.OpenAI) -> None:
    begun = official.responses.create(model=MODEL, input="Cough?", metadata=LABELS, background=True)
    assert official.responses.cancel(begun.id).status == "cancelled"
    assert official.responses.retrieve(begun.id).status == "cancelled"
    assert not lan.engine.seen


def test_what_failed_says_its_code(lan: Lan, official: openai.OpenAI) -> None:
    begun = official.responses.create(model=MODEL, input="Cough?", metadata=LABELS, background=True)
    ref = f"job_{begun.id.removeprefix('resp_')}"
    lan.engine.behave = "too_long"
    bench = Bench.here()
    bench.runner.run(bench.attempt(ref))
    bench.close()
    found = official.responses.retrieve(begun.id)
    assert found.status == "failed"
    assert found.error is not None
    assert str(found.error.code) == "context_length"


def test_an_answer_that_was_not_in_the_background_cannot_be_read_again(lan: Lan, official: openai.OpenAI) -> None:
    found = official.responses.create(model=MODEL, input="Cough?", metadata=LABELS)
    with pytest.raises(openai.NotFoundError):
        official.responses.retrieve(found.id)


def test_one_idempotency_key_is_one_piece_of_work(lan: Lan) -> None:
    body = {"model": MODEL, "input": "Cough?", "metadata": LABELS, "background": True}
    replies = [lan.ask("POST", "/v1/responses", body, headers={"Idempotency-Key": "v-1"}) for _ in range(2)]
    assert replies[0].json["id"] == replies[1].json["id"]


def test_finished_work_that_is_asked_for_again_is_a_reading_on_record(lan: Lan) -> None:
    body = {"model": MODEL, "input": "Cough?", "metadata": LABELS, "background": True}
    begun = lan.ask("POST", "/v1/responses", body, headers={"Idempotency-Key": "v-2"}).json["id"]
    ref = f"job_{begun.removeprefix('resp_')}"
    bench = Bench.here()
    bench.runner.run(bench.attempt(ref))
    bench.close()
    again = lan.ask("POST", "/v1/responses", body, headers={"Idempotency-Key": "v-2"})
    assert (again.json["id"], again.json["status"]) == (begun, "completed")
    (read,) = lans.audit_rows(f"action = 'job.read' AND target = '{ref}'")
    assert (read["client"], read["request_id"]) == (lan.client, again.headers["x-request-id"])


def test_finished_work_is_not_answered_again_once_its_life_is_over(lan: Lan) -> None:
    body = {"model": MODEL, "input": "Cough?", "metadata": LABELS, "background": True}
    begun = lan.ask("POST", "/v1/responses", body, headers={"Idempotency-Key": "v-3"}).json["id"]
    Job.objects.filter(ref=f"job_{begun.removeprefix('resp_')}").update(state="succeeded", payload=None)
    again = lan.ask("POST", "/v1/responses", body, headers={"Idempotency-Key": "v-3"})
    assert (again.status, again.code) == (404, "response_not_found")


def test_an_ended_background_response_can_be_forgotten(lan: Lan, official: openai.OpenAI) -> None:
    begun = official.responses.create(model=MODEL, input="Cough?", metadata=LABELS, background=True)
    path, ref = f"/v1/responses/{begun.id}", f"job_{begun.id.removeprefix('resp_')}"
    assert lan.ask("DELETE", path).code == "job_unfinished"
    official.responses.cancel(begun.id)
    assert lan.ask("DELETE", path).json == {"id": begun.id, "object": "response", "deleted": True}
    assert not Job.objects.filter(ref=ref).exists()
    assert len(lans.audit_rows(f"action = 'job.deleted' AND target = '{ref}'")) == 1
    again = lan.ask("DELETE", path)
    assert (again.status, again.code) == (404, "response_not_found")
