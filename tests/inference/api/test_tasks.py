"""`/v1/tasks` through the real process: what may be asked, and a record that becomes a checked draft."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inference.policy.catalog import SQL_SCHEMA, TASKS
from tests.simulators import lan as lans
from tests.simulators.lan import MODEL, RECORD, Lan
from tests.waiting import until

TABLES = {
    "dialect": "postgresql",
    "question": "How many visits in May?",
    "tables": [{"name": "visits", "columns": [{"name": "day", "type": "date"}]}],
}


def ask(lan: Lan, task: str = "progress_note", /, **changes: Any) -> lans.Reply:
    body = {"record": RECORD, "purpose": "TREAT", **changes}
    return lan.ask("POST", f"/v1/tasks/{task}", {name: value for name, value in body.items() if value is not None})


def test_every_registered_task_is_listed_with_what_this_key_may_do(lan: Lan) -> None:
    lan.key = lans.new_key(f"{lan.client}-n", tasks=["progress_note"], purposes=["TREAT", "HOPERAT"])
    until(lambda: lan.ask("GET", "/v1/models").status == 200, 10, "the key is known")
    listed = {task["id"]: task for task in lan.ask("GET", "/v1/tasks").json["data"]}
    assert set(listed) == set(TASKS)
    note = listed["progress_note"]
    assert note == {
        "id": "progress_note",
        "object": "task",
        "title": "Progress note",
        "form": "record",
        "fields": list(TASKS["progress_note"].fields),
        "record_schema": None,
        "output_schema": None,
        "checks": ["codes"],
        "patient_facing": False,
        "granted": True,
        "purposes": ["HOPERAT", "TREAT"],
    }
    assert (listed["embedding"]["granted"], listed["embedding"]["purposes"]) == (False, [])
    assert lan.ask("GET", "/v1/tasks/data_analyst").json["output_schema"] == dict(SQL_SCHEMA)
    assert lan.ask("GET", "/v1/tasks/poetry").code == "not_found"
    refused = ask(lan, "visit_summary")
    assert (refused.status, refused.code) == (403, "task_not_granted")


def test_a_record_becomes_a_draft_with_its_receipt(lan: Lan) -> None:
    lan.engine.tokens = ("Cough, ", "J20.9.")
    draft = ask(lan, record={**RECORD, "patient_name": "Canary"}, patient_id="4711", user="dr.lee", max_tokens=50).json
    assert (draft["object"], draft["task"], draft["text"]) == ("draft", "progress_note", "Cough, J20.9.")
    assert (draft["draft"], draft["ai_generated"], draft["disclosure"]) == (True, True, None)
    assert draft["receipt"]["dropped_fields"] == ["patient_name"]
    assert draft["receipt"]["checks"] == {"passed": ["codes"], "missing_codes": 0}
    assert draft["usage"]["total_tokens"] == 13
    (seen,) = lan.engine.seen
    assert "Canary" not in seen.body.decode()
    intent, outcome = lans.audit_rows(f"request_id = '{draft['id']}'")
    assert (intent["end_user"], len(intent["patient_tag"])) == ("dr.lee", 64)
    assert json.loads(outcome["detail"])["checks"] == {"passed": ["codes"], "missing_codes": 0}


def test_a_number_reaches_the_model_as_it_was_written(lan: Lan) -> None:
    body = b'{"record": {"age": 71, "lab_values": {"inr": 1.20}}, "purpose": "TREAT"}'
    assert lan.ask("POST", "/v1/tasks/progress_note", body).status == 200
    assert lan.engine.seen[0].fields["messages"][1]["content"] == '{"age": 71, "lab_values": {"inr": 1.20}}'


def test_a_task_with_a_schema_answers_with_an_object(lan: Lan) -> None:
    lan.engine.tokens = ('{"sql": "SELECT', ' 1"}')
    draft = ask(lan, "data_analyst", record=TABLES, purpose="HOPERAT").json
    assert draft["output"] == {"sql": "SELECT 1"}
    assert "text" not in draft
    assert lan.engine.seen[0].fields["structured_outputs"] == {"json": dict(SQL_SCHEMA)}


def test_a_message_to_a_patient_says_in_their_language_what_wrote_it(lan: Lan) -> None:
    draft = ask(lan, "patient_message", record={"language": "es", "topic": "cita"}).json
    assert draft["text"].endswith(draft["disclosure"])
    assert "inteligencia artificial" in draft["disclosure"]


@pytest.mark.parametrize(
    ("tokens", "task", "record"),
    [
        (("Code Z99.9.",), "progress_note", RECORD),
        (("SELECT 1",), "data_analyst", TABLES),
        (('{"sql": 1}',), "data_analyst", TABLES),
    ],
    ids=["an invented code", "no JSON", "another form"],
)
def test_a_draft_that_fails_its_check_does_not_leave(
    lan: Lan, tokens: tuple[str, ...], task: str, record: dict[str, Any]
) -> None:
    lan.engine.tokens = tokens
    reply = ask(lan, task, record=record)
    assert (reply.status, reply.code) == (502, "draft_refused")
    assert tokens[0] not in reply.body.decode()
    rows = lans.audit_rows(f"request_id = '{reply.headers['x-request-id']}' AND kind = 'outcome'")
    assert [row["outcome"] for row in rows] == ["draft_refused"]


@pytest.mark.parametrize(
    ("task", "changes", "status", "code"),
    [
        ("progress_note", {"record": None}, 400, "missing_field"),
        ("progress_note", {"record": [1]}, 400, "wrong_type"),
        ("progress_note", {"record": {"x": 1}}, 400, "record_empty"),
        ("progress_note", {"purpose": None}, 400, "purpose_required"),
        ("progress_note", {"purpose": "FUN"}, 400, "purpose_unknown"),
        ("progress_note", {"stream": True}, 400, "unknown_field"),
        ("progress_note", {"task": "visit_summary"}, 400, "unknown_field"),
        ("progress_note", {"model": "gpt-4"}, 404, "model_not_found"),
        ("progress_note", {"data_class": "synthetic", "patient_id": "1"}, 400, "data_class_conflict"),
        ("data_analyst", {"record": {**TABLES, "rows": [["Canary"]]}}, 400, "record_not_allowed"),
        ("conversation", {}, 400, "task_form"),
        ("patient_message", {"record": {"language": "fr", "topic": "x"}}, 400, "language_unsupported"),
        ("poetry", {}, 404, "not_found"),
    ],
)
def test_what_is_not_taken_is_refused_by_name(
    lan: Lan, task: str, changes: dict[str, Any], status: int, code: str
) -> None:
    reply = ask(lan, task, **changes)
    assert (reply.status, reply.code) == (status, code)
    assert not lan.engine.seen


def test_the_official_models_name_is_as_good_as_the_default(lan: Lan) -> None:
    assert ask(lan, model=MODEL).json["receipt"]["task"] == "progress_note"
