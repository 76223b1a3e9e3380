"""Step-up: a sensitive act needs a second factor of the last five minutes, leads back, and never posts again what was posted."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.test import Client

from appliance.accounts.models import Person, TotpDevice
from appliance.accounts.services import recovery
from console import access
from inference.clients import selectors as clients
from inference.clients import services as client_services
from tests.appliance import cast
from tests.console.conftest import Enter
from tests.console.door import records, text
from tests.console.keyholder import browser_at, first_step, question, with_key
from tests.console.sitemap import addresses

pytestmark = pytest.mark.django_db

# Each act that somebody else at an open screen must not do. One that is added here or there is added on purpose.
SENSITIVE = {
    "client-issue",
    "client-revoke",
    "client-rotate",
    "person",
    "person-deactivate",
    "person-enrolment",
    "person-patients",
    "person-reset-agree",
    "person-reset-ask",
    "profile-generator",
    "profile-generator-remove",
    "profile-key-new",
    "profile-key-remove",
    "profile-recovery",
    "review-sign",
}
REAL_TIME = time.time


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """So many seconds from now, as the console sees it."""
    moment = REAL_TIME() + seconds
    monkeypatch.setattr("console.access.time.time", lambda: moment)


def client_with_key() -> str:
    client_services.create_client(
        actor="erin",
        name="ward-7",
        title="Ward",
        owner="IT",
        tasks=["progress_note"],
        purposes=["TREAT"],
        lane="batch",
        phi=False,
    )
    return client_services.issue_key(actor="erin", client="ward-7", life=timedelta(days=1)).prefix


def works(prefix: str) -> bool:
    client = clients.client("ward-7")
    assert client is not None
    return any(key.prefix == prefix and key.usable for key in client.keys)


def test_exactly_the_declared_acts_need_it() -> None:
    assert {address.name for address in addresses() if hasattr(address.view, "stepped_up")} == SENSITIVE


def test_a_fresh_sign_in_is_asked_for_nothing(door: Enter) -> None:
    prefix = client_with_key()
    erin = door("erin")
    erin.post(f"/clients/at/ward-7/keys/{prefix}/revoke")
    assert not works(prefix)


def test_an_old_factor_is_asked_for_again_and_nothing_is_done_meanwhile_or_by_itself_afterwards(
    door: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = client_with_key()
    erin = door("erin")
    later(monkeypatch, access.STEP_UP_S + 1)
    page = "http://testserver/clients/at/ward-7"
    revoke = f"/clients/at/ward-7/keys/{prefix}/revoke"
    asked = erin.browser.post(revoke, headers={"Referer": page})
    assert asked["Location"] == "/step-up?next=%2Fclients%2Fat%2Fward-7&again=1"
    assert "Nothing was changed yet" in text(erin.get(asked["Location"]))
    cast.forget_used_codes()
    fields = {"next": "/clients/at/ward-7", "again": "1"}
    wrong = erin.post("/step-up", code="000000", **fields)
    assert wrong.status_code == 403
    back = erin.post("/step-up", code=erin.member.code(), **fields)
    assert back["Location"] == "/clients/at/ward-7"
    assert "Nothing was changed yet: repeat the step now" in text(erin.get(back["Location"]))
    assert works(prefix), "coming back does not do it"
    erin.post(revoke)
    assert not works(prefix)
    assert records(action="person.stepped_up")[0].actor == "erin"
    assert records(action="person.step_up_refused")[0].outcome == "code_refused"


def test_a_page_that_is_opened_leads_back_to_itself(door: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = door("bob")
    later(monkeypatch, access.STEP_UP_S + 1)
    assert bob.get("/profile/recovery?x=1")["Location"] == "/step-up?next=%2Fprofile%2Frecovery%3Fx%3D1"
    cast.forget_used_codes()
    there = bob.post("/step-up", code=bob.member.code(), next="/profile/recovery?x=1")
    assert bob.get(there["Location"]).status_code == 200


@pytest.mark.parametrize("came", ["https://evil.example/profile", "//evil.example", "javascript:alert(1)", ""])
def test_it_leads_to_no_other_place(door: Enter, monkeypatch: pytest.MonkeyPatch, came: str) -> None:
    bob = door("bob")
    later(monkeypatch, access.STEP_UP_S + 1)
    asked = bob.browser.post("/profile/recovery", headers={"Referer": came})
    assert asked["Location"] == "/step-up?next=%2F&again=1"
    cast.forget_used_codes()
    assert bob.post("/step-up", code=bob.member.code(), next=came)["Location"] == "/"


def test_a_clock_set_back_makes_nothing_fresher(door: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = door("bob")
    later(monkeypatch, -30)
    assert bob.get("/profile/recovery")["Location"].startswith("/step-up")


def test_a_key_and_a_recovery_code_are_second_factors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bob, key = with_key()
    code = recovery.make(actor="bob", username="bob")[0]
    later(monkeypatch, access.STEP_UP_S + 1)
    answer = key.get(question(bob.get("/step-up?next=/profile")))
    before = bob.browser.cookies["isoward_session"].value
    assert bob.post("/step-up", answer=answer, next="/profile")["Location"] == "/profile"
    assert bob.browser.cookies["isoward_session"].value != before
    assert bob.get("/profile/recovery").status_code == 200
    assert bob.post("/step-up", answer=answer, next="/profile").status_code == 403
    assert bob.post("/step-up", code=code, next="/profile").status_code == 302


def test_an_answer_given_for_sign_in_is_not_one_for_a_step_up() -> None:
    bob, key = with_key()
    browser = browser_at()
    browser.post("/sign-in", {"username": "bob", "password": bob.member.password})
    asked = question(browser.get("/sign-in/code"))
    assert bob.post("/step-up", answer=key.get(asked), next="/").status_code == 403


def test_failures_at_a_step_up_count_and_lock(door: Enter) -> None:
    bob = door("bob")
    for _ in range(10):
        assert bob.post("/step-up", code="000000").status_code == 403
    assert Person.objects.get(username="bob").locked_until is not None
    cast.forget_used_codes()
    assert bob.post("/step-up", code=bob.member.code()).status_code == 403


def test_somebody_without_the_permission_is_refused_before_they_are_asked(
    door: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    dave = door("dave")
    later(monkeypatch, access.STEP_UP_S + 1)
    assert dave.post("/staff/bob/deactivate").status_code == 403


def test_reading_a_person_needs_no_step_up_and_changing_their_roles_does(
    door: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    door("bob")
    erin = door("erin")
    later(monkeypatch, access.STEP_UP_S + 1)
    assert erin.get("/staff/bob").status_code == 200
    assert erin.post("/staff/bob", roles=["viewer"])["Location"].startswith("/step-up")
    assert Person.objects.get(username="bob").roles == ["approver"]


def test_a_stranger_at_the_step_up_page_is_sent_to_sign_in() -> None:
    assert Client().get("/step-up")["Location"].startswith("/sign-in")


def test_somebody_with_no_factor_left_to_show_can_still_enrol_one(door: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = door("bob")
    code = recovery.make(actor="bob", username="bob")[0]
    TotpDevice.objects.all().delete()
    browser = first_step(bob.member)
    assert browser.post("/sign-in/code", {"code": code})["Location"] == "/profile"
    later(monkeypatch, access.STEP_UP_S + 1)
    assert browser.get("/profile/recovery")["Location"].startswith("/step-up")
    assert browser.post("/profile/generator").status_code == 200
    # Once there is one, it is asked for like everybody's.
    TotpDevice.objects.update(confirmed=True)
    assert browser.post("/profile/generator")["Location"].startswith("/step-up")
