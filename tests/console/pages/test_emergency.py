"""The sealed account: two people with both factors, an alarm at once, an hour, and somebody else who looks at all of it."""

from __future__ import annotations

import base64
import re
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from appliance.accounts import services as accounts
from appliance.accounts.errors import PersonError, SignInRefusedError
from appliance.accounts.models import Person, TotpDevice
from appliance.accounts.services import sealed
from appliance.alerts import selectors as alerts
from appliance.emergency import rules, services, tasks
from appliance.emergency.errors import EmergencyError, NotEligibleError, OverError, StandingError
from appliance.emergency.models import Consent, Opening
from tests.appliance import cast
from tests.console.conftest import Enter
from tests.console.door import SignedIn, enter, records, text

pytestmark = pytest.mark.django_db

REASON = "Both administrators are out and the directory's certificate has run out."


@pytest.fixture
def bob(door: Enter) -> SignedIn:
    """An approver, who asks."""
    return door("bob")


def proof(person: SignedIn) -> dict[str, str]:
    cast.forget_used_codes()
    return {"password": person.member.password, "code": person.member.code()}


def asked(person: SignedIn) -> str:
    return person.post("/emergency/ask", reason=REASON, **proof(person))["Location"]


def opened(path: str, person: SignedIn) -> cast.Member:
    """The last consent; who gets in by what was shown."""
    page = text(person.post(f"{path}/agree", **proof(person)))
    password, secret = re.findall(r'<code class="secret">([^<]+)</code>', page)
    return cast.Member(sealed.USERNAME, password, base64.b32decode(secret.replace(" ", "")))


def test_two_people_open_it_everybody_is_alarmed_and_it_works_like_an_administrator(bob: SignedIn, door: Enter) -> None:
    path = asked(bob)
    assert not Person.objects.filter(username=sealed.USERNAME).exists()
    assert "1 more must agree" in text(bob.get(path))
    glass = enter(opened(path, door("grace")), Client())
    (alert,) = alerts.standing()
    assert (alert.key, alert.severity.value) == (services.ALERT, "critical")
    assert "bob and grace" in alert.detail
    assert glass.get("/staff").status_code == 200
    assert glass.get("/audit").status_code == 403
    (record,) = records(action="emergency.opened")
    assert '["bob", "grace"]' in record.detail


def test_one_person_alone_opens_nothing_however_often_they_agree(bob: SignedIn) -> None:
    path = asked(bob)
    again = bob.browser.post(f"{path}/agree", proof(bob), follow=True)
    assert "emergency_not_eligible" in text(again)
    with pytest.raises(IntegrityError, match="once_per_person"), transaction.atomic():
        Consent.objects.create(opening_id=Opening.objects.get().pk, person="bob", at=timezone.now())
    assert not Person.objects.filter(username=sealed.USERNAME).exists()
    assert alerts.standing() == ()


def test_both_factors_are_asked_of_each_and_a_wrong_one_counts(bob: SignedIn, door: Enter) -> None:
    path = asked(bob)
    carol = door("carol")
    for wrong in ({"password": "wrong"}, {"code": "000000"}):
        carol.post(f"{path}/agree", **(proof(carol) | wrong))
    assert Person.objects.get(username="carol").failures == 2
    assert Opening.objects.get().state == "asked"
    with pytest.raises(SignInRefusedError):
        services.ask(actor="bob", reason=REASON, password="wrong", code=bob.member.code())
    opened(path, carol)


def test_who_manages_staff_and_who_audits_cannot_open_it(bob: SignedIn, door: Enter) -> None:
    path = asked(bob)
    erin, dave = door("erin"), door("dave")
    assert erin.get("/emergency").status_code == 403
    assert dave.get(path).status_code == 200
    for person in (erin, dave):
        assert person.post(f"{path}/agree", **proof(person)).status_code == 403
        cast.forget_used_codes()
        with pytest.raises(NotEligibleError):
            services.agree(actor=person.member.username, opening_id=Opening.objects.get().pk, **proof(person))


def test_it_closes_at_its_minute_for_the_session_that_is_open_and_for_every_new_one(bob: SignedIn, door: Enter) -> None:
    member = opened(asked(bob), door("grace"))
    glass = enter(member, Client())
    Person.objects.filter(username=sealed.USERNAME).update(active_until=timezone.now() - timedelta(seconds=1))
    # Nobody swept: the row's own end is what every request looks at.
    assert glass.get("/staff")["Location"].startswith("/sign-in")
    with pytest.raises(SignInRefusedError):
        accounts.check_password(actor=sealed.USERNAME, password=member.password)
    assert Person.objects.get(username=sealed.USERNAME).permissions == frozenset()


def test_the_sweep_writes_down_that_it_closed_and_leaves_no_way_in(bob: SignedIn, door: Enter) -> None:
    opened(asked(bob), door("grace"))
    tasks.sweep()
    assert Opening.objects.get().state == "open"
    began = timezone.now() - rules.OPEN_FOR - timedelta(hours=23)
    Opening.objects.update(opened_at=began, closes_at=began + rules.OPEN_FOR)
    tasks.sweep()
    row = Opening.objects.get()
    assert (row.state, row.closed_at) == ("closed", row.closes_at)  # when it ended, not when somebody noticed
    assert records(action="emergency.closed")[0].outcome == "by_time"
    person = Person.objects.get(username=sealed.USERNAME)
    assert (person.is_active, person.has_usable_password()) == (False, False)
    assert services.ALERT in alerts.standing_keys()  # it stands until somebody has looked


def test_it_opens_once_until_somebody_else_has_reviewed_it(bob: SignedIn, door: Enter) -> None:
    path, grace = asked(bob), door("grace")
    glass = enter(opened(path, grace), Client())
    glass.post("/staff/bob", roles="viewer")
    accounts.set_roles(actor="test", username="bob", roles=["approver"])
    bob = enter(bob.member, Client())
    assert "emergency_standing" in text(
        bob.browser.post("/emergency/ask", {"reason": "Again.", **proof(bob)}, follow=True)
    )
    bob.post(f"{path}/close")
    assert glass.get("/staff")["Location"].startswith("/sign-in")
    assert "emergency_standing" in text(
        bob.browser.post("/emergency/ask", {"reason": "Again.", **proof(bob)}, follow=True)
    )
    # Neither of the two who opened it may say that it was in order.
    assert "emergency_not_eligible" in text(grace.browser.post(f"{path}/review", {"finding": "Fine."}, follow=True))
    door("carol")
    accounts.set_roles(actor="erin", username="carol", roles=["privacy_officer"])
    carol = enter(cast.Member("carol", "carol-has-a-long-password"), Client())
    page = text(carol.get(path))
    assert "person.roles_set" in page
    assert "person.signed_in" in page
    carol.post(f"{path}/review", finding="One role was changed by mistake and put back.")
    assert Opening.objects.get().reviewed_by == "carol"
    assert services.ALERT not in alerts.standing_keys()
    assert asked(bob).startswith("/emergency/")


def test_a_request_nobody_joins_is_over_after_half_an_hour(bob: SignedIn, door: Enter) -> None:
    path, grace = asked(bob), door("grace")
    Opening.objects.update(asked_at=timezone.now() - rules.ASKED_FOR)
    assert "emergency_over" in text(grace.browser.post(f"{path}/agree", proof(grace), follow=True))
    assert "Nobody joined in time" in text(grace.get(path))
    assert asked(bob) != path


def test_one_request_at_a_time_and_each_with_a_reason(bob: SignedIn, door: Enter) -> None:
    asked(bob)
    with pytest.raises(StandingError):
        services.ask(actor="grace", reason=REASON, **proof(door("grace")))
    with pytest.raises(EmergencyError):
        services.ask(actor="bob", reason=" ", **proof(bob))
    with pytest.raises(OverError):
        services.close(actor="bob", opening_id=Opening.objects.get().pk)
    with pytest.raises(OverError):
        services.review(actor="grace", opening_id=Opening.objects.get().pk, finding="Fine.")


def test_what_was_shown_opens_nothing_the_next_time(bob: SignedIn, door: Enter) -> None:
    path, grace = asked(bob), door("grace")
    first = opened(path, grace)
    accounts.enrol_totp(actor=sealed.USERNAME, username=sealed.USERNAME)  # one more, left behind on purpose
    bob.post(f"{path}/close")
    accounts.set_roles(actor="erin", username="grace", roles=["viewer"])
    Opening.objects.update(state="reviewed", reviewed_by="dave", reviewed_at=timezone.now(), finding="Fine.")
    second = opened(asked(bob), door("carol"))
    assert TotpDevice.objects.filter(user__username=sealed.USERNAME).count() == 1
    assert (second.password, second.seed) != (first.password, first.seed)
    with pytest.raises(SignInRefusedError):
        accounts.check_password(actor=sealed.USERNAME, password=first.password)
    accounts.check_password(actor=sealed.USERNAME, password=second.password)
    with pytest.raises(SignInRefusedError):
        accounts.check_code(actor=sealed.USERNAME, code=first.code())


def test_nobody_is_created_under_its_name(door: Enter) -> None:
    with pytest.raises(PersonError, match="sealed account"):
        accounts.create_person(
            actor="erin", username=sealed.USERNAME, display_name="", password="a-long-password-1", roles=[]
        )


def test_the_database_keeps_the_hour_the_one_opening_and_the_end(bob: SignedIn, door: Enter) -> None:
    opened(asked(bob), door("grace"))
    now = timezone.now()
    for change, name in (
        ({"closes_at": now + timedelta(hours=2)}, "open_has_its_end"),
        ({"state": "reviewed"}, "reviewed_by_somebody"),
        ({"state": "used"}, "opening_state"),
    ):
        with pytest.raises(IntegrityError, match=name), transaction.atomic():
            Opening.objects.update(**change)
    with pytest.raises(IntegrityError, match="one_unreviewed"), transaction.atomic():
        Opening.objects.create(reason="x", asked_by="x", asked_at=now, state="open", opened_at=now, closes_at=now)
    with pytest.raises(IntegrityError, match="sealed_has_an_end"), transaction.atomic():
        Person.objects.filter(username=sealed.USERNAME).update(active_until=None)
