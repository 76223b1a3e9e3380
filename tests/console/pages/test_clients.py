"""Clients: register, issue a key shown once, revoke; and what a form may not smuggle in."""

from __future__ import annotations

import json
import re

import pytest

from inference.clients import selectors as clients
from tests.console.conftest import Enter
from tests.console.door import SignedIn, records, text

pytestmark = pytest.mark.django_db

WARD = {
    "name": "ward-7",
    "title": "Ward 7",
    "owner": "Informatics",
    "tasks": ["progress_note"],
    "purposes": ["TREAT"],
    "lane": "interactive",
    "phi": "on",
}


@pytest.fixture
def erin(door: Enter) -> SignedIn:
    person = door("erin")
    assert person.browser.post("/clients/new", WARD).status_code == 302
    return person


def once(person: SignedIn) -> str:
    found = re.search(r'name="once" value="([^"]+)"', text(person.get("/clients/at/ward-7")))
    assert found
    return found.group(1)


def test_a_registered_client_has_what_was_ticked_and_nothing_else(erin: SignedIn) -> None:
    client = clients.client("ward-7")
    assert (client.tasks, client.purposes, client.lane, client.phi) == (
        ("progress_note",),
        ("TREAT",),
        "interactive",
        True,
    )
    assert records(action="client.created")[0].actor == "erin"


def test_a_key_is_shown_on_one_answer_and_never_again(erin: SignedIn) -> None:
    answer = text(erin.post("/clients/at/ward-7/issue", days="90", once=once(erin)))
    found = re.search(r"iwk_[\w-]{20,}", answer)
    assert found
    key = found.group(0)
    client = clients.client("ward-7")
    assert len(client.keys) == 1
    assert key.startswith(client.keys[0].prefix)
    for path in ("/clients/at/ward-7", "/clients", "/"):
        assert key not in text(erin.get(path))
    assert all(key not in f"{row.target}{row.detail}" for row in records())
    assert key not in str(erin.browser.session.items())


def test_a_reloaded_or_forged_press_makes_no_second_key(erin: SignedIn) -> None:
    token = once(erin)
    assert erin.post("/clients/at/ward-7/issue", days="90", once=token).status_code == 200
    for replayed in (token, "", "forged"):
        assert erin.post("/clients/at/ward-7/issue", days="90", once=replayed).status_code == 302
    assert len(clients.client("ward-7").keys) == 1


def test_a_revoked_key_is_revoked_and_a_second_press_changes_nothing(erin: SignedIn) -> None:
    erin.post("/clients/at/ward-7/issue", days="90", once=once(erin))
    prefix = clients.client("ward-7").keys[0].prefix
    for _ in range(2):
        assert erin.post(f"/clients/at/ward-7/keys/{prefix}/revoke").status_code == 302
    assert clients.client("ward-7").keys[0].revoked_at is not None
    assert len(records(action="client.key_revoked")) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Ward 7"),
        ("name", "ward-7"),
        ("tasks", []),
        ("tasks", ["progress_note", "anything"]),
        ("purposes", ["FUN"]),
        ("lane", "vip"),
        ("owner", ""),
    ],
)
def test_a_client_with_a_bad_field_is_not_registered(erin: SignedIn, field: str, value: object) -> None:
    before = clients.clients()
    response = erin.browser.post("/clients/new", {**WARD, "name": "other", field: value})
    assert response.status_code in {200, 400}
    assert clients.clients() == before


def test_a_key_with_a_life_not_on_the_list_is_not_issued(erin: SignedIn) -> None:
    assert erin.post("/clients/at/ward-7/issue", days="36500", once=once(erin)).status_code == 200
    assert clients.client("ward-7").keys == ()


def test_grants_are_replaced_by_what_is_ticked_and_the_record_holds_both(erin: SignedIn) -> None:
    path = "/clients/at/ward-7/grants"
    assert 'value="progress_note" id="id_tasks_0" checked' in text(erin.get(path))
    given = {
        "tasks": ["visit_summary"], "purposes": ["HOPERAT"], "lane": "batch", "features": ["tools"],
        "tools": "lookup, order", "assertion_required": "on",
    }  # fmt: skip
    assert erin.browser.post(path, given).status_code == 302
    client = clients.client("ward-7")
    assert (client.tasks, client.purposes, client.lane, client.phi) == (
        ("visit_summary",),
        ("HOPERAT",),
        "batch",
        False,
    )
    assert (client.features, client.tools, client.assertion_required) == (("tools",), ("lookup", "order"), True)
    detail = json.loads(records(action="client.updated")[0].detail)
    assert (detail["tasks"], detail["before"]["tasks"]) == (["visit_summary"], ["progress_note"])


@pytest.mark.parametrize(
    ("field", "value"), [("tasks", []), ("features", ["shell"]), ("tools", "rm -rf /"), ("tools", "a" * 65)]
)
def test_grants_with_a_bad_field_change_nothing(erin: SignedIn, field: str, value: object) -> None:
    before = clients.client("ward-7")
    response = erin.browser.post(
        "/clients/at/ward-7/grants", {"tasks": ["progress_note"], "purposes": ["TREAT"], "lane": "batch", field: value}
    )
    assert response.status_code == 200
    assert clients.client("ward-7") == before


def test_a_suspended_client_gets_no_key_and_comes_back_when_let_in(erin: SignedIn) -> None:
    token = once(erin)
    erin.post("/clients/at/ward-7/suspend", active="no")
    assert not clients.client("ward-7").active
    response = erin.browser.post("/clients/at/ward-7/issue", {"days": "90", "once": token}, follow=True)
    assert "client_suspended" in text(response)
    assert records(kind="refusal", actor="erin")[0].outcome == "client_suspended"
    erin.post("/clients/at/ward-7/suspend", active="yes")
    assert clients.client("ward-7").active


def test_an_auditor_sees_the_client_and_no_way_to_change_it(erin: SignedIn, door: Enter) -> None:
    page = text(door("dave").get("/clients/at/ward-7"))
    assert "Ward 7" in page
    assert "Issue a key" not in page
    assert "Suspend" not in page


def test_what_people_type_stays_text(erin: SignedIn) -> None:
    erin.browser.post("/clients/new", {**WARD, "name": "odd", "title": "<b>&lt;script&gt;alert(1)</b>"})
    page = text(erin.get("/clients/at/odd"))
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
