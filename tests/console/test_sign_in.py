"""Sign-in in two steps: what it accepts, what it refuses in one voice, and how long a session lives."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from django.test import Client

from appliance.accounts import services as accounts
from appliance.accounts.models import Person, StaffSession
from appliance.accounts.sessions import SessionStore, row_key
from console import access
from console.pages import sign_in
from tests.appliance import cast
from tests.console.conftest import Enter
from tests.console.door import enter, records, text

pytestmark = pytest.mark.django_db

LOCKED_TEXT = "is not right, or the account is locked"


def first_step(browser: Client, member: cast.Member, **extra: str) -> int:
    fields = {"username": member.username, "password": member.password, **extra}
    return browser.post("/sign-in", fields).status_code


def test_password_and_code_open_the_overview_and_are_recorded() -> None:
    bob = enter(cast.member("bob"), Client())
    assert bob.get("/").status_code == 200
    assert [row.action for row in records(actor="bob")] == ["person.signed_in"]


def test_wrong_unknown_disabled_and_locked_get_one_text_and_one_status() -> None:
    bob, carol, dave = cast.member("bob"), cast.member("carol"), cast.member("dave")
    accounts.deactivate(actor="erin", username="carol")
    for _ in range(10):
        Client().post("/sign-in", {"username": "dave", "password": "wrong"})
    pages = []
    for name, password in (
        ("bob", "wrong"),
        ("nobody", "wrong"),
        ("carol", carol.password),
        ("dave", dave.password),
        ("BOB", bob.password),
    ):
        response = Client().post("/sign-in", {"username": name, "password": password})
        page = text(response)
        assert response.status_code == 403
        assert LOCKED_TEXT in page
        start = page.index('role="alert"')
        pages.append(page[start : page.index("</div>", start)])
    assert len(set(pages)) == 1
    assert Client().post("/sign-in", {"username": "bob\x00", "password": bob.password}).status_code == 403


def test_ten_wrong_passwords_lock_the_account_and_the_right_one_then_is_refused() -> None:
    bob = cast.member("bob")
    for _ in range(9):
        Client().post("/sign-in", {"username": "bob", "password": "wrong"})
    assert first_step(Client(), bob) == 302
    Client().post("/sign-in", {"username": "bob", "password": "wrong"})
    assert first_step(Client(), bob) == 403
    assert records(actor="bob", action="person.locked")
    # Time opens it again; nothing else about the account changed.
    Person.objects.filter(username="bob").update(locked_until=None)
    assert first_step(Client(), bob) == 302


def test_a_refused_sign_in_is_recorded_without_what_was_typed_into_the_name() -> None:
    cast.member("bob")
    Client().post("/sign-in", {"username": "bob", "password": "wrong"})
    Client().post("/sign-in", {"username": "my-password-in-the-wrong-field", "password": "x"})
    refused = records(action="person.sign_in_refused")
    assert [row.actor for row in refused] == ["unknown", "bob"]
    assert all("wrong-field" not in f"{row.target}{row.detail}{row.actor}" for row in refused)


@pytest.mark.parametrize(
    "spell",
    [
        lambda code: "".join(chr(ord(digit) + 0xFEE0) for digit in code),
        lambda code: "".join(chr(ord(digit) - ord("0") + 0x0660) for digit in code),
        lambda code: f" {code} ",
        lambda code: f"+{code}",
        lambda code: f"{code[:2]}_{code[2:]}",
        lambda code: f"{code}\n",
        lambda code: code.lstrip("0") + ".0",
        lambda _: "",
    ],
    ids=["full-width", "arabic", "spaces", "plus", "underscore", "newline", "decimal", "empty"],
)
def test_an_odd_spelling_of_the_right_code_is_refused_and_the_plain_one_then_counts(
    spell: Callable[[str], str],
) -> None:
    bob = cast.member("bob")
    browser = Client()
    first_step(browser, bob)
    code = bob.code()
    assert browser.post("/sign-in/code", {"code": spell(code)}).status_code == 403
    assert browser.get("/").status_code == 302
    assert browser.post("/sign-in/code", {"code": code}).status_code == 302
    assert browser.get("/").status_code == 200


def test_a_code_counts_once() -> None:
    bob = cast.member("bob")
    code = bob.code()
    first, second = Client(), Client()
    for browser in (first, second):
        first_step(browser, bob)
    assert first.post("/sign-in/code", {"code": code}).status_code == 302
    assert second.post("/sign-in/code", {"code": code}).status_code == 403


def test_a_code_of_two_steps_away_is_refused_and_a_neighbour_counts() -> None:
    bob = cast.member("bob")
    browser = Client()
    first_step(browser, bob)
    for steps in (-2, 3):
        assert browser.post("/sign-in/code", {"code": bob.code(steps=steps)}).status_code == 403
    assert browser.post("/sign-in/code", {"code": bob.code(steps=1)}).status_code == 302


def test_the_code_page_without_the_password_goes_back_to_the_password() -> None:
    bob = cast.member("bob")
    response = Client().post("/sign-in/code", {"code": bob.code()})
    assert (response.status_code, response["Location"]) == (302, "/sign-in")


def test_the_time_between_the_steps_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    bob = cast.member("bob")
    browser = Client()
    first_step(browser, bob)
    later = time.time() + sign_in.PENDING_S + 1
    monkeypatch.setattr("console.pages.sign_in.time.time", lambda: later)
    assert browser.post("/sign-in/code", {"code": bob.code(steps=10)})["Location"] == "/sign-in"


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil",
        "/\\evil",
        "\\\\evil",
        "javascript:alert(1)",
        "https://evil.example/",
        "http:evil",
        "/\t/evil",
        "///evil",
        "evil",
        "/x\r\nSet-Cookie: a=b",
        "",
    ],
)
def test_next_that_is_not_a_plain_path_of_ours_goes_to_the_overview(wanted: str) -> None:
    bob = cast.member("bob")
    browser = Client()
    first = browser.post("/sign-in", {"username": "bob", "password": bob.password, "next": wanted})
    assert first["Location"] == "/sign-in/code"
    assert browser.post("/sign-in/code", {"code": bob.code(), "next": wanted})["Location"] == "/"


def test_next_that_is_a_path_of_ours_is_where_sign_in_leads() -> None:
    bob = cast.member("bob")
    browser = Client()
    assert browser.get("/audit?actor=bob")["Location"] == "/sign-in?next=%2Faudit%3Factor%3Dbob"
    wanted = "/changes?state=open"
    first = browser.post("/sign-in", {"username": "bob", "password": bob.password, "next": wanted})
    assert urlsplit(first["Location"]).query == "next=%2Fchanges%3Fstate%3Dopen"
    assert browser.post("/sign-in/code", {"code": bob.code(), "next": wanted})["Location"] == wanted


def test_the_session_id_changes_at_both_steps_and_a_planted_one_is_never_used() -> None:
    bob = cast.member("bob")
    attackers = SessionStore()
    attackers["kept"] = "by the attacker"
    attackers.create()
    planted = str(attackers.session_key)
    browser = Client()
    browser.cookies["isoward_session"] = planted
    first_step(browser, bob)
    pending = browser.cookies["isoward_session"].value
    browser.post("/sign-in/code", {"code": bob.code()})
    signed_in = browser.cookies["isoward_session"].value
    assert len({planted, pending, signed_in}) == 3
    rows = set(StaffSession.objects.values_list("session_key", flat=True))
    assert rows == {row_key(signed_in)}
    assert "kept" not in browser.session


def test_the_session_cookie_is_for_this_site_alone_and_not_for_scripts() -> None:
    bob = enter(cast.member("bob"), Client())
    cookie = bob.browser.cookies["isoward_session"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"


def test_signing_out_ends_the_session_on_the_machine_too(door: Enter) -> None:
    bob = door("bob")
    kept = bob.browser.cookies["isoward_session"].value
    assert bob.post("/sign-out").status_code == 302
    stolen = Client()
    stolen.cookies["isoward_session"] = kept
    assert stolen.get("/").status_code == 302
    assert records(actor="bob", action="person.signed_out")


def test_signing_out_by_a_link_does_nothing(door: Enter) -> None:
    bob = door("bob")
    assert bob.get("/sign-out").status_code == 405
    assert bob.get("/").status_code == 200


REAL_TIME = time.time


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """So many seconds from now, as the session's limits see it."""
    moment = REAL_TIME() + seconds
    monkeypatch.setattr("console.middleware.time.time", lambda: moment)


def test_a_session_ends_after_fifteen_idle_minutes_and_says_so(door: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = door("bob")
    at(monkeypatch, 14 * 60)
    assert bob.get("/").status_code == 200
    at(monkeypatch, 28 * 60)
    assert bob.get("/").status_code == 200
    at(monkeypatch, 44 * 60)
    assert bob.get("/").status_code == 302
    assert "15 minutes without an act" in text(bob.get("/sign-in"))


def test_a_live_part_does_not_keep_an_unattended_screen_signed_in(door: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = door("bob")
    for minutes in (5, 10, 14):
        at(monkeypatch, minutes * 60)
        assert bob.browser.get("/live", headers={"HX-Request": "true"}).status_code == 200
    at(monkeypatch, 16 * 60)
    assert bob.browser.get("/live", headers={"HX-Request": "true"}).status_code == 401


def test_a_session_ends_after_twelve_hours_however_busy(door: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = door("bob")
    for step in range(1, 72):
        at(monkeypatch, step * 600)
        assert bob.get("/profile").status_code == 200
    at(monkeypatch, 12 * 3600 + 60)
    assert bob.get("/profile").status_code == 302


def test_a_clock_set_back_ends_the_session_instead_of_stretching_it(
    door: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = door("bob")
    at(monkeypatch, -3600)
    assert bob.get("/").status_code == 302


def test_a_session_without_its_times_is_over(door: Enter) -> None:
    bob = door("bob")
    session = bob.browser.session
    del session[access.SEEN_AT]
    session.save()
    assert bob.get("/").status_code == 302


def test_a_password_changed_elsewhere_ends_the_session(door: Enter) -> None:
    bob = door("bob")
    person = Person.objects.get(username="bob")
    person.set_password("another-long-password-of-bob")
    person.save(update_fields=["password"])
    assert bob.get("/").status_code == 302


def test_a_second_factor_taken_away_ends_what_it_opened(door: Enter) -> None:
    bob = door("bob")
    accounts.enrol_totp(actor="erin", username="bob", confirmed=True)
    assert bob.get("/").status_code == 302


def test_a_form_without_its_token_or_with_that_of_another_session_is_refused() -> None:
    bob = cast.member("bob")
    strict = Client(enforce_csrf_checks=True)
    strict.get("/sign-in")
    other = Client(enforce_csrf_checks=True)
    other.get("/sign-in")
    fields = {"username": "bob", "password": bob.password}
    bare = strict.post("/sign-in", fields)
    assert bare.status_code == 403
    assert "csrf_failed" in text(bare)
    token = other.cookies["isoward_csrf"].value
    assert strict.post("/sign-in", {**fields, "csrfmiddlewaretoken": token}).status_code == 403
    own = strict.cookies["isoward_csrf"].value
    assert strict.post("/sign-in", {**fields, "csrfmiddlewaretoken": own}).status_code == 302
