"""Writing access reviews: open, decide, sign. What is revoked is carried out by the signature, as the act that it is.

Signing is one transaction: the record of the review, its digest and every ended access are there together or not at all.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.accounts import services as people
from appliance.alerts import services as alerting
from appliance.alerts.rules import Severity
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from appliance.reviews import rules, selectors
from appliance.reviews.errors import ReviewOpenError, SignedError, UnknownReviewError
from appliance.reviews.models import Decision, Review

OVERDUE = "access_review.overdue"


@transaction.atomic
def open_(*, actor: str) -> int:
    """Begin a review; returns its number."""
    try:
        with transaction.atomic():
            review = Review.objects.create(opened_by=actor, opened_at=timezone.now())
    except IntegrityError as error:
        raise ReviewOpenError("A review is open already. Go on with that one.") from error
    audit.record(actor=actor, action=Action.REVIEW_OPENED, target=f"review:{review.pk}")
    return review.pk


@transaction.atomic
def decide(
    *, actor: str, review_id: int, username: str, verdict: rules.Verdict, reason: str, clients: selectors.Clients
) -> None:
    """Say what becomes of one person's access; saying it again replaces what was said."""
    _open(review_id)
    rules.check_decision(actor=actor, username=username, reason=reason)
    person = next((one for one in selectors.access(clients) if one.username == username), None)
    if person is None:
        raise UnknownReviewError(f"There is nobody called {username} whose access could be decided.")
    Decision.objects.update_or_create(
        review_id=review_id,
        username=username,
        defaults={
            "verdict": verdict.value,
            "reason": reason.strip(),
            "decided_by": actor,
            "decided_at": timezone.now(),
            "facts": person.facts(),
        },
    )
    audit.record(
        actor=actor,
        action=Action.REVIEW_DECIDED,
        target=username,
        outcome=verdict.value,
        detail={"review": review_id, "roles": list(person.roles)},
    )


@transaction.atomic
def sign(*, actor: str, review_id: int, clients: selectors.Clients) -> tuple[str, ...]:
    """Sign the review off and end the access that was revoked; returns whose. UndecidedError while anybody is missing."""
    review = _open(review_id)
    now = selectors.access(clients)
    present = {person.username for person in now}
    said = {one.username: one for one in selectors.decisions(review.decisions.all())}
    rules.check_complete(rules.undecided(actor=actor, people=now, decisions=said))
    revoked = tuple(
        one.username for one in said.values() if one.verdict is rules.Verdict.REVOKE and one.username in present
    )
    for username in revoked:
        people.deactivate(actor=actor, username=username)
    review.state, review.signed_by, review.signed_at = Review.State.SIGNED, actor, timezone.now()
    review.digest = rules.digest(
        review_id=review.pk,
        opened_by=review.opened_by,
        opened_at=review.opened_at,
        signed_by=actor,
        signed_at=review.signed_at,
        decisions=said.values(),
    )
    review.save(update_fields=["state", "signed_by", "signed_at", "digest"])
    alerting.close(actor=actor, key=OVERDUE, reason=f"review {review.pk} is signed")
    audit.record(
        actor=actor,
        action=Action.REVIEW_SIGNED,
        target=f"review:{review.pk}",
        detail={
            "digest": review.digest,
            "kept": len(said) - len(revoked),
            "revoked": list(revoked),
            "left_to_another": sorted(present - set(said)),
        },
    )
    return revoked


@transaction.atomic
def exported(*, actor: str, review_id: int, form: str) -> None:
    """Record that the list of who can do what left this machine."""
    audit.record(
        actor=actor, action=Action.REVIEW_EXPORTED, target=f"review:{review_id}", kind="read", detail={"form": form}
    )


@unaudited("the alert it opens or closes leaves the record")
def watch(*, actor: str) -> None:
    """Open the alert when no review was signed for 90 days; close it when one was."""
    since = selectors.overdue_since(timezone.now())
    if since is None:
        alerting.close(actor=actor, key=OVERDUE, reason="a review is signed")
        return
    alerting.open_(
        actor=actor,
        key=OVERDUE,
        severity=Severity.WARNING,
        title="The access review is overdue",
        detail=f"Due since {since:%Y-%m-%d}: for {rules.DUE_EVERY.days} days nobody has signed who may do what here.",
    )


def _open(review_id: int) -> Review:
    # Locked: what is decided while somebody signs is either in the signed review or refused.
    review = Review.objects.select_for_update().filter(pk=review_id).first()
    if review is None:
        raise UnknownReviewError("There is no such review.")
    if review.state != Review.State.OPEN:
        raise SignedError("This review is signed. What has changed since belongs in the next one.")
    return review
