"""T23: nobody takes somebody's factors away alone, the one concerned is out at once and hears of it, and neither of the two gets in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.accounts import rules, selectors, services
from appliance.accounts.errors import ResetError, SignInRefusedError
from appliance.accounts.models import FactorReset, Person, StaffSession
from appliance.accounts.services import factors, recovery, resets
from appliance.audit import selectors as log
from tests.appliance import cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def bob() -> cast.Member:
    """bob lost his telephone; erin and dave are there."""
    cast.member("erin")
    cast.member("dave")
    return cast.member("bob")


def test_two_people_take_the_factors_away_and_the_code_they_hand_over_opens_once(bob: cast.Member) -> None:
    old = recovery.make(actor="bob", username="bob")
    resets.ask(actor="erin", username="bob", reason="telephone lost")
    assert selectors.factors("bob").generator is not None, "asking takes nothing away"
    code = resets.agree(actor="dave", username="bob")
    assert selectors.factors("bob").generator is None
    for gone in (bob.code(), old[0]):
        with pytest.raises(SignInRefusedError):
            factors.check_typed(actor="bob", code=gone)
    factors.check_typed(actor="bob", code=code)
    with pytest.raises(SignInRefusedError):
        factors.check_typed(actor="bob", code=code)
    (row,) = log.search(log.Query(action="person.factors_reset"), limit=5)
    assert (row.actor, row.target) == ("dave", "bob")
    assert "erin" in row.detail


def test_neither_the_one_who_asked_nor_the_one_concerned_can_agree(bob: cast.Member) -> None:
    resets.ask(actor="erin", username="bob", reason="telephone lost")
    for alone in ("erin", "bob"):
        with pytest.raises(ResetError, match="Another person"):
            resets.agree(actor=alone, username="bob")
    assert selectors.factors("bob").generator is not None
    resets.agree(actor="dave", username="bob")


def test_nobody_asks_for_themselves_or_for_somebody_who_is_out(bob: cast.Member) -> None:
    with pytest.raises(ResetError):
        resets.ask(actor="bob", username="bob", reason="x")
    services.deactivate(actor="erin", username="bob")
    with pytest.raises(ResetError):
        resets.ask(actor="erin", username="bob", reason="x")


def test_what_nobody_agreed_to_within_a_day_is_over_and_can_be_asked_again(bob: cast.Member) -> None:
    resets.ask(actor="erin", username="bob", reason="telephone lost")
    with pytest.raises(ResetError, match="already asked"):
        resets.ask(actor="dave", username="bob", reason="again")
    FactorReset.objects.update(asked_at=timezone.now() - rules.RESET_OPEN_FOR)
    assert selectors.reset_waiting("bob") is None
    with pytest.raises(ResetError, match="more than a day"):
        resets.agree(actor="dave", username="bob")
    resets.ask(actor="dave", username="bob", reason="again")
    resets.agree(actor="erin", username="bob")


def test_it_can_be_stopped_and_then_nobody_can_agree(bob: cast.Member) -> None:
    resets.ask(actor="erin", username="bob", reason="telephone lost")
    resets.withdraw(actor="bob", username="bob")
    with pytest.raises(ResetError):
        resets.agree(actor="dave", username="bob")
    assert selectors.factors("bob").generator is not None


def test_it_is_done_once_and_told_once(bob: cast.Member) -> None:
    resets.ask(actor="erin", username="bob", reason="telephone lost")
    resets.agree(actor="dave", username="bob")
    with pytest.raises(ResetError):
        resets.agree(actor="dave", username="bob")
    (untold,) = selectors.resets_untold("bob")
    assert (untold.asked_by, untold.agreed_by) == ("erin", "dave")
    resets.told(username="bob")
    assert selectors.resets_untold("bob") == ()


def test_it_ends_the_sessions_of_the_one_concerned_and_no_other(bob: cast.Member) -> None:
    now = timezone.now()
    for username in ("bob", "dave"):
        person = Person.objects.get(username=username)
        StaffSession.objects.create(
            session_key=username, person=person, began=now, expire_date=now + timedelta(hours=1)
        )
    resets.ask(actor="erin", username="bob", reason="telephone lost")
    assert StaffSession.objects.count() == 2
    resets.agree(actor="dave", username="bob")
    assert [row.session_key for row in StaffSession.objects.all()] == ["dave"]


@pytest.mark.parametrize("by", [("bob", "dave"), ("erin", "erin"), ("erin", "bob"), ("erin", "")])
def test_the_database_refuses_a_reset_by_one_person_or_by_the_one_concerned(
    bob: cast.Member, by: tuple[str, str]
) -> None:
    now = timezone.now()
    with pytest.raises(IntegrityError), transaction.atomic():
        FactorReset.objects.create(person="bob", asked_by=by[0], agreed_by=by[1], asked_at=now, state="done")
    FactorReset.objects.create(person="bob", asked_by="erin", agreed_by="dave", asked_at=now, state="done")
