"""`/v1/decisions` and `/v1/explain` through the real process: what became of a draft, for the client it was made for."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.utils import timezone

from inference.clients import selectors as clients
from inference.drafts import rules
from tests.simulators import lan as lans
from tests.simulators.lan import RECORD, Lan
from tests.waiting import until


def draft(lan: Lan, task: str = "progress_note") -> str:
    reply = lan.ask("POST", f"/v1/tasks/{task}", {"record": RECORD, "purpose": "TREAT", "user": "dr.lee"})
    return str(reply.json["id"])


def decide(lan: Lan, request_id: str, /, **changes: Any) -> lans.Reply:
    body = {"request_id": request_id, "decision": "accepted", **changes}
    return lan.ask("POST", "/v1/decisions", {name: value for name, value in body.items() if value is not None})


def unreviewed(lan: Lan, more: str = "") -> Any:
    return lan.ask("GET", f"/v1/decisions?state=unreviewed{more}").json


def ids(page: Any) -> list[str]:
    return [item["request_id"] for item in page["data"]]


@pytest.fixture
def neighbour(lan: Lan) -> Lan:
    found = lans.Lan(lan.port, lan.log, lan.engine, f"{lan.client}-nb", lans.new_key(f"{lan.client}-nb"))
    until(lambda: found.ask("GET", "/v1/models").status == 200, 10, "the neighbour's key is known")
    return found


def test_a_decision_is_on_record_beside_the_request_it_is_about(lan: Lan) -> None:
    request_id = draft(lan)
    reply = decide(lan, request_id, decision="edited", minutes_saved=7.5, edit_distance=120, user="dr.lee")
    assert reply.status == 200
    (row,) = lans.audit_rows(f"request_id = '{request_id}' AND action = 'draft.decided'")
    assert reply.json == {
        "object": "decision",
        "request_id": request_id,
        "decision": "edited",
        "audit": {"shard": row["shard"], "seq": row["seq"]},
    }
    assert (row["kind"], row["outcome"], row["end_user"], row["task"]) == ("act", "edited", "dr.lee", "progress_note")
    assert json.loads(row["detail"]) == {
        "user_proved": False,
        "minutes_saved": 7.5,
        "edit_distance": 120,
        "told_by": reply.headers["x-request-id"],
    }


def test_a_decision_is_given_once_even_by_two_at_a_time(lan: Lan) -> None:
    request_id = draft(lan)
    with ThreadPoolExecutor(4) as four:
        replies = list(
            four.map(lambda verdict: decide(lan, request_id, decision=verdict), ["accepted", "rejected"] * 2)
        )
    assert sorted(reply.status for reply in replies) == [200, 409, 409, 409]
    assert {reply.code for reply in replies if reply.status == 409} == {"already_decided"}
    assert len(lans.audit_rows(f"request_id = '{request_id}' AND action = 'draft.decided'")) == 1


def test_nobody_decides_about_or_reads_what_another_client_asked(lan: Lan, neighbour: Lan) -> None:
    request_id = draft(lan)
    for stolen, missing in (
        (decide(neighbour, request_id), decide(neighbour, "req_" + "0" * 24)),
        (
            neighbour.ask("GET", f"/v1/explain/{request_id}"),
            neighbour.ask("GET", "/v1/explain/req_" + "0" * 24),
        ),
    ):
        assert (stolen.status, stolen.code) == (missing.status, missing.code) == (404, "request_not_found")
        assert stolen.json["error"]["message"] == missing.json["error"]["message"]
    assert unreviewed(neighbour)["data"] == []
    assert ids(unreviewed(lan)) == [request_id]


def test_what_came_to_no_answer_is_no_draft(lan: Lan) -> None:
    lan.engine.behave = "error_500"
    failed = lan.ask("POST", "/v1/tasks/progress_note", {"record": RECORD, "purpose": "TREAT"})
    reply = decide(lan, failed.headers["x-request-id"])
    assert (reply.status, reply.code) == (409, "no_draft")
    assert unreviewed(lan)["data"] == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"decision": None}, "missing_field"),
        ({"decision": "maybe"}, "out_of_range"),
        ({"minutes_saved": -1}, "out_of_range"),
        ({"minutes_saved": "7"}, "out_of_range"),
        ({"edit_distance": 1e9}, "out_of_range"),
        ({"text": "the edited note"}, "unknown_field"),
        ({"user": "Dr. Lee, 4711"}, "out_of_range"),
        ({"request_id": None}, "missing_field"),
        ({"request_id": "req 1"}, "out_of_range"),
    ],
)
def test_a_decision_of_another_form_is_refused_by_name(lan: Lan, changes: dict[str, Any], code: str) -> None:
    reply = decide(lan, "req_" + "0" * 24, **changes)
    assert (reply.status, reply.code) == (400, code)


def test_the_drafts_nobody_decided_about_are_listed_page_by_page(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [draft(lan) for _ in range(5)]
    lan.ask(
        "POST",
        "/v1/completions",
        {"model": "default", "prompt": "x", "metadata": {"task": "conversation", "purpose": "TREAT"}},
    )
    decide(lan, made[1])
    first = unreviewed(lan, "&limit=2")
    assert (ids(first), first["has_more"]) == ([made[4], made[3]], True)
    second = unreviewed(lan, f"&limit=2&after={first['next']}")
    assert (ids(second), second["has_more"], second["next"]) == ([made[2], made[0]], False, None)
    item = first["data"][0]
    assert (item["task"], item["user"], item["release_digest"]) == ("progress_note", "dr.lee", lans.DIGEST)
    assert lans.audit_rows(f"action = 'draft.listed' AND client = '{lan.client}'")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "missing_field"),
        ("?state=all", "out_of_range"),
        ("?state=unreviewed&limit=0", "out_of_range"),
        ("?state=unreviewed&limit=101", "out_of_range"),
        ("?state=unreviewed&limit=9999999", "out_of_range"),
        ("?state=unreviewed&limit=0100999999", "out_of_range"),
        ("?state=unreviewed&after=1-2", "out_of_range"),
        ("?state=unreviewed&after=" + "9" * 30 + "-1-1", "out_of_range"),
        ("?state=unreviewed&client=ward-1", "unknown_field"),
        ("?state=unreviewed&state=unreviewed", "duplicate_key"),
        ("?state", "out_of_range"),
        ("?" + "&".join(f"a{n}=1" for n in range(20)), "out_of_range"),
        ("?state=%ff", "out_of_range"),
    ],
)
def test_a_query_of_another_form_is_refused_by_name(lan: Lan, query: str, code: str) -> None:
    reply = lan.ask("GET", f"/v1/decisions{query}")
    assert (reply.status, reply.code) == (400, code)


def test_a_page_costs_the_same_however_much_was_decided(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    from inference.drafts import selectors  # noqa: PLC0415 - read here, in this process, with a smaller page

    waiting = draft(lan)
    for _ in range(4):
        decide(lan, draft(lan))
    monkeypatch.setattr(rules, "LOOKED_AT", 3)
    rights = clients.snapshot().of_key_id(lan.key[:12], now=timezone.now())
    assert rights is not None
    page = selectors.unreviewed(rights=rights, before=None, limit=10)
    assert page.drafts == ()
    assert page.following is not None
    rest = selectors.unreviewed(rights=rights, before=page.following, limit=10)
    assert [row.request_id for row in rest.drafts] == [waiting]
    assert rest.following is None


def test_a_receipt_resolves_to_the_release_the_change_and_its_approvers(lan: Lan) -> None:
    lan.engine.tokens = ("Cough, ", "J20.9.")
    request_id = draft(lan)
    decide(lan, request_id, minutes_saved=3, user="dr.lee")
    found = lan.ask("GET", f"/v1/explain/{request_id}").json
    assert (found["state"], found["task"], found["purpose"], found["lane"]) == (
        "ok",
        "progress_note",
        "TREAT",
        "interactive",
    )
    assert found["model"] == {"id": lans.MODEL, "release_digest": lans.DIGEST, "name": "eval", "version": 1}
    change = found["change"]
    assert (change["kind"], change["proposer"], change["approvers"]) == ("release.activate", "alice", ["bob", "carol"])
    assert found["checks"] == {"passed": ["codes"], "missing_codes": 0}
    assert found["usage"] == {"input_tokens": 11, "output_tokens": 2}
    assert found["duration_ms"] >= 0
    assert [one["kind"] for one in found["audit"]] == ["intent", "outcome", "act"]
    assert {one["sealed"] for one in found["audit"]} == {False}
    assert (found["decision"]["decision"], found["decision"]["minutes_saved"]) == ("accepted", 3)
    assert "J20.9" not in json.dumps(found)
    (read,) = lans.audit_rows(f"action = 'request.explained' AND target = '{request_id}'")
    assert (read["kind"], read["client"]) == ("read", lan.client)


def test_a_request_that_was_refused_is_explained_by_its_code(lan: Lan) -> None:
    refused = lan.chat(metadata={"task": "progress_note", "purpose": "FUN"})
    request_id = refused.headers["x-request-id"]
    found = lan.ask("GET", f"/v1/explain/{request_id}").json
    assert (found["state"], found["change"], found["model"]["name"]) == ("purpose_unknown", None, "")
