"""A first second factor: a code by hand and the person's own first factor, together and once; never a way to replace one."""

from __future__ import annotations

import base64
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from appliance.accounts import rules, services
from appliance.accounts.models import Enrolment, Person, TotpDevice
from tests.appliance import cast
from tests.console.conftest import Enter
from tests.console.door import SignedIn, enter, records, text

pytestmark = pytest.mark.django_db

PASSWORD = "lena-has-a-long-password"


@pytest.fixture
def erin(door: Enter) -> SignedIn:
    """The administrator; lena is known and has no second factor."""
    services.create_person(
        actor="test", username="lena", display_name="Lena Brandt", password=PASSWORD, roles=["viewer"]
    )
    return door("erin")


def given(erin: SignedIn, username: str = "lena") -> str:
    found = re.search(r'<code class="secret">([a-z2-7-]+)</code>', text(erin.post(f"/staff/{username}/enrolment")))
    assert found
    return found[1]


def between(name: str = "lena", password: str = PASSWORD) -> Client:
    """A browser between the two steps."""
    browser = Client()
    browser.post("/sign-in", {"username": name, "password": password})
    return browser


def seed(page: str) -> bytes:
    found = re.search(r'<code class="secret">([A-Z2-7 ]+)</code>', page)
    assert found
    return base64.b32decode(found[1].replace(" ", ""))


def test_the_code_and_the_password_together_enrol_and_the_generator_signs_in(erin: SignedIn) -> None:
    code, browser = given(erin), between()
    assert "I have no second factor here yet" in text(browser.get("/sign-in/code"))
    made = seed(text(browser.post("/sign-in/enrol", {"given": code.upper()})))
    lena = cast.Member("lena", PASSWORD, made)
    assert browser.get("/profile")["Location"].startswith("/sign-in")  # nobody yet
    assert browser.post("/sign-in/enrol", {"shown": lena.code()}).status_code == 200
    assert browser.get("/profile")["Location"].startswith("/sign-in")  # nor now
    assert enter(lena, browser).get("/profile").status_code == 200
    assert not Enrolment.objects.exists()
    assert records(action="person.enrolment_given")[0].actor == "erin"
    assert {row.actor for row in records(action="person.totp_enrolled", kind="act") if row.target == "lena"} == {"lena"}


def test_the_code_alone_shows_nothing_and_the_password_alone_shows_nothing(erin: SignedIn) -> None:
    code = given(erin)
    assert Client().post("/sign-in/enrol", {"given": code})["Location"] == "/sign-in"
    browser = between()
    assert browser.post("/sign-in/enrol", {"given": "aaaa-bbbb"}).status_code == 403
    assert browser.post("/sign-in/enrol", {"shown": "123456"}).status_code == 403
    assert not TotpDevice.objects.filter(user__username="lena").exists()
    assert records(action="person.enrolment_refused")[0].actor == "lena"
    assert between().post("/sign-in/enrol", {"given": code}).status_code == 200


def test_a_code_counts_once_and_for_its_own_person(erin: SignedIn) -> None:
    services.create_person(
        actor="test", username="olaf", display_name="", password="olaf-has-a-long-password", roles=[]
    )
    code = given(erin)
    assert between("olaf", "olaf-has-a-long-password").post("/sign-in/enrol", {"given": code}).status_code == 403
    browser, late = between(), between()
    made = seed(text(browser.post("/sign-in/enrol", {"given": code})))
    late.post("/sign-in/enrol", {"given": code})
    # Whoever began last holds the seed that counts: the one before it shows nothing right any more.
    assert browser.post("/sign-in/enrol", {"shown": cast.Member("", "", made).code()}).status_code == 403
    newest = seed(text(browser.post("/sign-in/enrol", {"given": code})))
    assert browser.post("/sign-in/enrol", {"shown": cast.Member("", "", newest).code()}).status_code == 200
    assert between().post("/sign-in/enrol", {"given": code}).status_code == 403


def test_a_new_code_voids_the_one_before_and_a_day_voids_every_code(erin: SignedIn) -> None:
    old, new = given(erin), given(erin)
    assert between().post("/sign-in/enrol", {"given": old}).status_code == 403
    assert between().post("/sign-in/enrol", {"given": new}).status_code == 200
    Enrolment.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert between().post("/sign-in/enrol", {"given": new}).status_code == 403


def test_it_is_never_given_to_somebody_with_a_factor_to_oneself_or_to_somebody_who_is_out(
    erin: SignedIn, door: Enter
) -> None:
    door("bob")
    for username in ("bob", "erin", "nobody"):
        answer = erin.browser.post(f"/staff/{username}/enrolment")
        assert answer.status_code == 302
        assert records(kind="refusal")[0].outcome in {"enrolment_refused", "person_refused"}
    services.deactivate(actor="erin", username="lena")
    assert erin.browser.post("/staff/lena/enrolment").status_code == 302
    assert not Enrolment.objects.exists()


def test_a_code_that_was_given_before_another_factor_came_replaces_nothing(erin: SignedIn) -> None:
    code = given(erin)
    services.enrol_totp(actor="test", username="lena", seed=cast.SEED, confirmed=True)
    assert between().post("/sign-in/enrol", {"given": code}).status_code == 403
    assert TotpDevice.objects.filter(user__username="lena").count() == 1
    enter(cast.Member("lena", PASSWORD), Client())


def test_wrong_codes_lock_the_account_like_wrong_passwords(erin: SignedIn) -> None:
    code, browser = given(erin), between()
    for _ in range(rules.FAILURES_BEFORE_LOCK):
        browser.post("/sign-in/enrol", {"given": "aaaa"})
    assert Person.objects.get(username="lena").locked_until is not None
    assert browser.post("/sign-in/enrol", {"given": code}).status_code == 403


def test_the_code_stands_in_no_table_and_in_no_session(erin: SignedIn) -> None:
    code, browser = given(erin), between()
    browser.post("/sign-in/enrol", {"given": code})
    kept = [Enrolment.objects.get().digest, str(dict(browser.session))]
    assert not [one for one in kept if code in one or code.replace("-", "") in one]
    assert code not in text(erin.get("/staff/lena"))
