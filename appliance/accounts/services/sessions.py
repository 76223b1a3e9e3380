"""Ending sessions: one's own, one by one or all at once, and somebody else's."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from appliance.accounts.errors import PersonError
from appliance.accounts.models import Challenge, NetworkFailures, Person, StaffSession
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited


@transaction.atomic
def end_one(*, actor: str, row_key: str) -> None:
    """End one session of one's own; PersonError when it is not there any more."""
    ended, _ = StaffSession.objects.filter(person__username=actor, session_key=row_key).delete()
    if not ended:
        raise PersonError("That session is already over.")
    audit.record(actor=actor, action=Action.PERSON_SESSIONS_ENDED, target=actor, detail={"count": 1})


@transaction.atomic
def end_all(*, actor: str, username: str, keep: str = "") -> int:
    """End every session of a person, except the one named by `keep`; how many there were."""
    ended, _ = StaffSession.objects.filter(person__username=username).exclude(session_key=keep).delete()
    audit.record(actor=actor, action=Action.PERSON_SESSIONS_ENDED, target=username, detail={"count": ended})
    return ended


@unaudited("the act it belongs to is recorded")
def forget(person: Person) -> None:
    """End a person's sessions inside another act."""
    StaffSession.objects.filter(person=person).delete()


@unaudited("what is over is swept; nothing ends here")
def sweep() -> None:
    """Remove what has expired: sessions, challenges that nobody answered, failures of yesterday."""
    now = timezone.now()
    StaffSession.objects.filter(expire_date__lt=now).delete()
    Challenge.objects.filter(made_at__lt=now - timedelta(hours=1)).delete()
    NetworkFailures.objects.filter(since__lt=now - timedelta(days=1)).delete()
