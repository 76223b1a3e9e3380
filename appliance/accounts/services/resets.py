"""Taking somebody's lost factors away needs two people, ends their sessions, and is told to the one concerned (T23).

What the second person is shown is one recovery code, to be given by hand: with the password it opens the door once, and
the person enrols anew. Neither of the two can sign in with it, because neither knows the password.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.accounts import rules
from appliance.accounts.errors import ResetError
from appliance.accounts.models import FactorReset, Passkey, RecoverySheet, StaffSession, TotpDevice
from appliance.accounts.services import attempts, recovery
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited


@transaction.atomic
def ask(*, actor: str, username: str, reason: str) -> None:
    """The first person asks; nothing is taken away yet."""
    person = attempts.locked_person(username)
    rules.check_can_ask_reset(actor=actor, username=username, is_active=person.is_active)
    now = timezone.now()
    # What nobody agreed to within a day is over, so that it cannot stand in the way for ever.
    FactorReset.objects.filter(
        person=username, state=FactorReset.State.ASKED, asked_at__lte=now - rules.RESET_OPEN_FOR
    ).update(state=FactorReset.State.WITHDRAWN, closed_at=now)
    try:
        with transaction.atomic():
            FactorReset.objects.create(person=username, reason=reason.strip(), asked_by=actor, asked_at=now)
    except IntegrityError as error:
        raise ResetError("This was already asked for; another person can agree to it.") from error
    audit.record(actor=actor, action=Action.PERSON_FACTORS_RESET_ASKED, target=username, detail={"reason": reason})


@transaction.atomic
def agree(*, actor: str, username: str) -> str:
    """The second person agrees: factors, codes and sessions are gone. Returns one recovery code, to be shown once."""
    person = attempts.locked_person(username)
    asked = FactorReset.objects.select_for_update().filter(person=username, state=FactorReset.State.ASKED).first()
    if asked is None:
        raise ResetError("Nobody asked for this, or it is already done.")
    now = timezone.now()
    rules.check_can_agree(actor=actor, username=username, asked_by=asked.asked_by, asked_at=asked.asked_at, now=now)
    asked.state, asked.agreed_by, asked.closed_at = FactorReset.State.DONE, actor, now
    asked.save(update_fields=["state", "agreed_by", "closed_at"])
    for factor in (TotpDevice, Passkey, RecoverySheet):
        factor.objects.filter(user_id=person.pk).delete()
    ended, _ = StaffSession.objects.filter(person=person).delete()
    (code,) = recovery.make(actor=actor, username=username, count=1)
    audit.record(
        actor=actor,
        action=Action.PERSON_FACTORS_RESET,
        target=username,
        detail={"asked_by": asked.asked_by, "sessions_ended": ended},
    )
    return code


@transaction.atomic
def withdraw(*, actor: str, username: str) -> None:
    """Anybody who could ask or agree, and the person concerned, may stop it."""
    stopped = FactorReset.objects.filter(person=username, state=FactorReset.State.ASKED).update(
        state=FactorReset.State.WITHDRAWN, closed_at=timezone.now()
    )
    if not stopped:
        raise ResetError("Nobody asked for this, or it is already done.")
    audit.record(actor=actor, action=Action.PERSON_FACTORS_RESET_WITHDRAWN, target=username)


@unaudited("the reset itself is recorded; this notes that the one concerned has read of it")
def told(*, username: str) -> None:
    """The person has been shown what was done."""
    FactorReset.objects.filter(person=username, state=FactorReset.State.DONE, told_at=None).update(
        told_at=timezone.now()
    )
