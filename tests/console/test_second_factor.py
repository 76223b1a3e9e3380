"""Step two of sign-in by key, by recovery code and by two codes in a row; and a person's own factors on their pages."""

from __future__ import annotations

import base64
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from appliance.accounts import selectors
from appliance.accounts.models import Challenge, Person, TotpDevice
from appliance.accounts.services import recovery
from appliance.alerts import selectors as alerts
from tests.appliance import cast
from tests.console.conftest import Enter
from tests.console.door import enter, records, text
from tests.console.keyholder import browser_at, first_step, question, with_key

pytestmark = pytest.mark.django_db


def opens(browser: Client) -> bool:
    return browser.get("/profile").status_code == 200


def test_a_key_enrolled_on_the_profile_opens_the_door_and_is_named_in_the_record() -> None:
    bob, key = with_key()
    assert "desk" in text(bob.get("/profile"))
    browser = first_step(bob.member)
    response = browser.post("/sign-in/code", {"answer": key.get(question(browser.get("/sign-in/code")))})
    assert (response.status_code, response["Location"]) == (302, "/")
    assert "your password and a security key" in text(browser.get("/profile"))
    assert '"security_key"' in records(action="person.signed_in")[0].detail


def test_a_wrong_answer_is_refused_counted_and_recorded_and_a_code_then_opens() -> None:
    bob, key = with_key()
    browser = first_step(bob.member)
    key.origin = "https://evil.example"
    response = browser.post("/sign-in/code", {"answer": key.get(question(browser.get("/sign-in/code")))})
    assert response.status_code == 403
    assert "is not right, or the account is locked" in text(response)
    assert not opens(browser)
    assert Person.objects.get(username="bob").failures == 1
    assert records(action="person.passkey_refused")
    assert records(action="person.sign_in_refused")[0].outcome == "key_refused"
    cast.forget_used_codes()
    assert browser.post("/sign-in/code", {"code": bob.member.code()}).status_code == 302


def test_an_answer_to_the_question_of_another_session_opens_neither() -> None:
    bob, key = with_key()
    mine, theirs = first_step(bob.member), first_step(bob.member)
    answer = key.get(question(mine.get("/sign-in/code")))
    theirs.get("/sign-in/code")
    assert theirs.post("/sign-in/code", {"answer": answer}).status_code == 403
    assert mine.post("/sign-in/code", {"answer": answer}).status_code == 302


def test_an_answer_without_the_password_before_it_opens_nothing() -> None:
    bob, key = with_key()
    browser = first_step(bob.member)
    answer = key.get(question(browser.get("/sign-in/code")))
    stranger = browser_at()
    assert stranger.post("/sign-in/code", {"answer": answer})["Location"] == "/sign-in"
    assert not opens(stranger)


def test_under_an_address_the_page_says_by_which_name_keys_work_and_asks_nothing() -> None:
    bob, _ = with_key()
    Challenge.objects.all().delete()
    browser = first_step(bob.member, host="127.0.0.1:18800")
    page = browser.get("/sign-in/code")
    assert question(page) == ""
    assert "<strong>localhost</strong>" in text(page)
    cast.forget_used_codes()
    assert browser.post("/sign-in/code", {"code": bob.member.code()}).status_code == 302
    assert "Open this console as <strong>localhost</strong>" in text(browser.get("/profile/keys/new"))


def test_a_recovery_code_opens_once_is_told_and_raises_an_alert_until_a_new_sheet_is_made() -> None:
    bob = cast.member("bob")
    code = recovery.make(actor="bob", username="bob")[0]
    browser = first_step(bob)
    assert browser.post("/sign-in/code", {"code": code}).status_code == 302
    assert "recovery code is used up; 9 are left" in text(browser.get("/"))
    assert [alert.title for alert in alerts.standing()] == ["bob signed in with a recovery code"]
    again = first_step(bob)
    assert again.post("/sign-in/code", {"code": code}).status_code == 403
    assert not opens(again)
    shown = text(browser.post("/profile/recovery"))
    assert len(re.findall(r"<code>[a-z2-7]{4}(?:-[a-z2-7]{4}){3}</code>", shown)) == 10
    assert alerts.standing() == ()
    assert opens(browser), "the session that a code opened does not end with its sheet"


def test_recovery_codes_are_shown_on_no_other_answer() -> None:
    bob = enter(cast.member("bob"), Client())
    codes = re.findall(r"[a-z2-7]{4}(?:-[a-z2-7]{4}){3}", text(bob.post("/profile/recovery")))
    for path in ("/profile", "/profile/recovery", "/"):
        assert not any(code in text(bob.get(path)) for code in codes)
    assert not any(code in f"{row.detail}{row.target}" for row in records() for code in codes)


def test_two_codes_in_a_row_open_the_door_of_somebody_whose_clock_ran_away() -> None:
    bob = cast.member("bob")
    browser = first_step(bob)
    assert browser.post("/sign-in/code", {"code": bob.code(steps=30)}).status_code == 403
    pair = {"first": bob.code(steps=30), "second": bob.code(steps=31)}
    assert browser.post("/sign-in/clock", {**pair, "second": bob.code(steps=33)}).status_code == 403
    assert browser.post("/sign-in/clock", pair).status_code == 302
    page = text(browser.get("/profile"))
    assert "930 s ahead of ours" in page
    assert "Set the clock" in page
    again = first_step(bob)
    assert again.post("/sign-in/clock", pair).status_code == 403
    assert not opens(again)


def test_two_codes_without_the_password_before_them_open_nothing() -> None:
    bob = cast.member("bob")
    response = Client().post("/sign-in/clock", {"first": bob.code(), "second": bob.code(steps=1)})
    assert response["Location"] == "/sign-in"


def test_a_new_generator_is_shown_once_begun_and_counts_after_its_code(door: Enter) -> None:
    bob = door("bob")
    page = text(bob.post("/profile/generator"))
    secret = re.findall(r'<code class="secret">([A-Z2-7 ]+)</code>', page)[0].replace(" ", "")
    assert "<svg" in page
    assert 'style="' not in page
    wrong = bob.post("/profile/generator", code="000000")
    assert wrong.status_code == 403
    assert secret[:4] in text(wrong), "the same secret, so that it need not be scanned again"
    elsewhere = enter(bob.member, Client())
    new = cast.Member("bob", bob.member.password, base64.b32decode(secret))
    assert bob.post("/profile/generator", code=new.code())["Location"] == "/profile"
    assert opens(bob.browser), "the session goes on under the new generator"
    assert not opens(elsewhere.browser), "what the old one opened elsewhere is over"
    cast.forget_used_codes()
    assert first_step(bob.member).post("/sign-in/code", {"code": bob.member.code(steps=1)}).status_code == 403
    assert first_step(bob.member).post("/sign-in/code", {"code": new.code()}).status_code == 302
    assert not any(secret in f"{row.detail}{row.target}" for row in records())


def test_a_generator_that_nobody_began_is_not_confirmed(door: Enter) -> None:
    bob = door("bob")
    assert bob.post("/profile/generator", code="000000")["Location"] == "/profile/generator"
    assert TotpDevice.objects.count() == 1


def test_keys_are_taken_away_on_the_profile_while_another_factor_stays() -> None:
    alice, _ = with_key("alice")
    assert alice.post("/profile/generator/remove").status_code == 302
    assert selectors.factors("alice").generator is None
    key_id = selectors.factors("alice").keys[0].id
    browser = first_step(alice.member)
    assert not opens(browser)
    # The generator opened alice's session, and it is gone: so is the session.
    assert not opens(alice.browser)
    assert alice.post(f"/profile/keys/{key_id}/remove")["Location"].startswith("/sign-in")
    assert selectors.factors("alice").keys


def test_the_last_factor_is_not_taken_away(door: Enter) -> None:
    alice = door("alice")
    alice.post("/profile/generator/remove")
    assert "only second factor" in text(alice.get("/profile"))
    assert selectors.factors("alice").generator is not None


def test_what_two_people_took_away_is_told_at_the_next_sign_in_and_a_factor_is_asked_for() -> None:
    erin = enter(cast.member("erin"), Client())
    cast.ROLES["frank"] = ["security_officer"]
    frank = enter(cast.member("frank"), Client())
    del cast.ROLES["frank"]
    bob = enter(cast.member("bob"), Client())
    assert bob.post("/staff/bob/factors/agree").status_code == 403
    erin.post("/staff/bob/factors/ask", reason="telephone lost")
    assert "asks to take the second factors of bob away" in text(frank.get("/staff"))
    erin.post("/staff/bob/factors/agree")
    assert opens(bob.browser), "the one who asked cannot agree"
    shown = text(frank.post("/staff/bob/factors/agree"))
    code = re.findall(r'<code class="secret">([a-z2-7-]+)</code>', shown)[0]
    assert not opens(bob.browser)
    assert code not in text(frank.get("/staff/bob/factors"))
    browser = first_step(bob.member)
    cast.forget_used_codes()
    assert browser.post("/sign-in/code", {"code": bob.member.code()}).status_code == 403
    assert browser.post("/sign-in/code", {"code": code})["Location"] == "/profile"
    page = text(browser.get("/profile"))
    assert "erin asked (telephone lost)" in page
    assert "frank agreed" in page
    assert "You have no second factor of your own" in page
    assert selectors.resets_untold("bob") == (), "told once, and not at every sign-in"


def test_the_one_concerned_reads_that_it_was_asked_for_and_stops_it(door: Enter) -> None:
    erin, bob = door("erin"), door("bob")
    erin.post("/staff/bob/factors/ask", reason="telephone lost")
    assert "erin asked on" in text(bob.get("/profile"))
    assert bob.post("/profile/reset/stop").status_code == 302
    assert "You keep your second factors" in text(bob.get("/profile"))
    assert selectors.reset_waiting("bob") is None
    assert records(action="person.factors_reset_withdrawn")[0].actor == "bob"


def test_a_challenge_that_nobody_answered_is_swept() -> None:
    bob, _ = with_key()
    first_step(bob.member).get("/sign-in/code")
    Challenge.objects.update(made_at=timezone.now() - timedelta(hours=2))
    enter(bob.member, browser_at())
    assert Challenge.objects.count() == 0
