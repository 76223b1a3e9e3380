"""Access reviews: somebody else looks at everybody, signs for it, and what was revoked has ended by then."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.accounts import services as accounts
from appliance.accounts.models import Person
from appliance.alerts import selectors as alerts
from appliance.reviews import rules, selectors, services, tasks
from appliance.reviews.errors import (
    OwnAccessError,
    ReviewError,
    ReviewOpenError,
    SignedError,
    UndecidedError,
    UnknownReviewError,
)
from appliance.reviews.models import Decision, Review
from appliance.reviews.rules import Verdict
from tests.appliance import cast
from tests.console.door import records

pytestmark = pytest.mark.django_db

OWNED = {"erin": ["ward-7"]}


@pytest.fixture
def people() -> None:
    for name in ("alice", "bob", "erin", "grace"):
        cast.member(name)


def say(review_id: int, username: str, verdict: Verdict = Verdict.KEEP, *, actor: str = "grace") -> None:
    services.decide(
        actor=actor, review_id=review_id, username=username, verdict=verdict, reason="Same ward.", clients=OWNED
    )


def decided(*, revoke: str = "") -> int:
    """A review by grace in which everybody but grace is decided on."""
    review_id = services.open_(actor="grace")
    for name in ("alice", "bob", "erin"):
        say(review_id, name, Verdict.REVOKE if name == revoke else Verdict.KEEP)
    return review_id


def test_signing_ends_what_was_revoked_keeps_the_rest_and_is_one_record_with_a_digest(people: None) -> None:
    review_id = decided(revoke="bob")
    assert Person.objects.get(username="bob").is_active
    assert services.sign(actor="grace", review_id=review_id, clients=OWNED) == ("bob",)
    assert {p.username for p in Person.objects.filter(is_active=True)} == {"alice", "erin", "grace"}
    (ended,) = records(action="person.deactivated")
    assert (ended.actor, ended.target) == ("grace", "bob")
    review = selectors.review(review_id)
    assert review is not None
    assert review.is_as_signed
    (signed,) = records(action="review.signed")
    assert review.digest in signed.detail
    assert '"left_to_another": ["grace"]' in signed.detail


def test_the_record_holds_what_each_person_could_do_when_it_was_decided(people: None) -> None:
    review_id = decided()
    review = selectors.review(review_id)
    assert review is not None
    facts = {one.username: one.facts for one in review.decisions}
    assert facts["bob"]["factors"] == ["password", "one-time code", "signing key"]
    assert (facts["erin"]["roles"], facts["erin"]["clients"]) == (["app_owner", "it_admin"], ["ward-7"])


def test_it_is_not_signed_while_anybody_is_undecided_or_has_changed_since(people: None) -> None:
    review_id = services.open_(actor="grace")
    say(review_id, "alice")
    say(review_id, "erin")
    with pytest.raises(UndecidedError, match="bob"):
        services.sign(actor="grace", review_id=review_id, clients=OWNED)
    say(review_id, "bob")
    accounts.set_roles(actor="erin", username="alice", roles=["model_operator", "viewer"])
    with pytest.raises(UndecidedError, match="alice"):
        services.sign(actor="grace", review_id=review_id, clients=OWNED)
    say(review_id, "alice")
    with pytest.raises(UndecidedError, match="erin"):
        services.sign(actor="grace", review_id=review_id, clients={})
    cast.member("carol")
    with pytest.raises(UndecidedError, match="carol"):
        services.sign(actor="grace", review_id=review_id, clients=OWNED)
    say(review_id, "carol")
    Person.objects.filter(username="bob").update(last_login=timezone.now())  # having signed in changes nothing
    services.sign(actor="grace", review_id=review_id, clients=OWNED)


def test_nobody_decides_about_themselves_in_the_service_or_in_the_database(people: None) -> None:
    review_id = decided()
    with pytest.raises(OwnAccessError):
        say(review_id, "grace")
    with pytest.raises(IntegrityError, match="not_ones_own"), transaction.atomic():
        Decision.objects.filter(review_id=review_id, username="bob").update(decided_by="bob")
    say(review_id, "grace", actor="dave")


def test_a_reviewer_whose_own_access_was_revoked_by_another_cannot_sign_it_away(people: None) -> None:
    review_id = decided()
    say(review_id, "grace", Verdict.REVOKE, actor="dave")
    with pytest.raises(Exception, match="Nobody deactivates themselves"):
        services.sign(actor="grace", review_id=review_id, clients=OWNED)
    assert Review.objects.get().state == "open"
    assert services.sign(actor="dave", review_id=review_id, clients=OWNED) == ("grace",)


def test_a_decision_needs_a_reason_and_somebody_to_be_about(people: None) -> None:
    review_id = services.open_(actor="grace")
    for reason in ("", "   ", "x" * 501):
        with pytest.raises(ReviewError):
            services.decide(
                actor="grace", review_id=review_id, username="bob", verdict=Verdict.KEEP, reason=reason, clients={}
            )
    accounts.deactivate(actor="erin", username="bob")
    for name in ("nobody", "bob"):
        with pytest.raises(UnknownReviewError):
            say(review_id, name)
    say(review_id, "alice")


def test_one_review_at_a_time_and_a_signed_one_takes_nothing_more(people: None) -> None:
    review_id = decided()
    with pytest.raises(ReviewOpenError):
        services.open_(actor="dave")
    services.sign(actor="grace", review_id=review_id, clients=OWNED)
    with pytest.raises(SignedError):
        say(review_id, "bob", Verdict.REVOKE)
    with pytest.raises(SignedError):
        services.sign(actor="grace", review_id=review_id, clients=OWNED)
    services.open_(actor="dave")


@pytest.mark.parametrize("change", [{"reason": "Other."}, {"verdict": "revoke"}, {"decided_by": "dave"}, {"facts": {}}])
def test_a_signed_review_that_is_altered_past_the_service_is_seen(people: None, change: dict[str, object]) -> None:
    review_id = decided()
    services.sign(actor="grace", review_id=review_id, clients=OWNED)
    Decision.objects.filter(username="bob").update(**change)
    review = selectors.review(review_id)
    assert review is not None
    assert not review.is_as_signed


def test_the_database_takes_no_half_signed_review(people: None) -> None:
    decided()
    for change in ({"state": "signed"}, {"signed_by": "grace"}, {"digest": "a" * 64}):
        with pytest.raises(IntegrityError, match="signed_whole"), transaction.atomic():
            Review.objects.update(**change)


def overdue() -> bool:
    tasks.watch()
    return services.OVERDUE in alerts.standing_keys()


def test_ninety_days_without_a_signed_review_are_an_alert_until_one_is_signed(people: None) -> None:
    assert not overdue()
    Person.objects.update(created_at=timezone.now() - rules.DUE_EVERY + timedelta(minutes=1))
    assert not overdue()
    Person.objects.update(created_at=timezone.now() - rules.DUE_EVERY)
    assert overdue()
    review_id = decided()
    assert overdue()  # open is not signed
    services.sign(actor="grace", review_id=review_id, clients=OWNED)
    assert services.OVERDUE not in alerts.standing_keys()
    assert not overdue()
    Review.objects.update(signed_at=timezone.now() - rules.DUE_EVERY)
    assert overdue()


def test_a_machine_without_people_owes_no_review() -> None:
    assert not overdue()
