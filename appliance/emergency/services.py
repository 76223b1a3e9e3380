"""Opening, closing and reviewing the sealed account. Each step is a record; opening is a critical alert at once.

The account's own end stands on its row (accounts.services.sealed), so that it closes at that moment whether or not any
process of ours is there to close it; the sweep only writes down that it did.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.accounts import selectors as accounts
from appliance.accounts import services as people
from appliance.accounts.permissions import Permission
from appliance.accounts.services import sealed
from appliance.alerts import services as alerting
from appliance.alerts.rules import Severity
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from appliance.emergency import rules
from appliance.emergency.errors import OverError, StandingError
from appliance.emergency.models import Consent, Opening

ALERT = "emergency.account_open"


def ask(*, actor: str, reason: str, password: str, code: str) -> int:
    """The first person asks, with both factors; returns the number. Nothing is open yet."""
    rules.check_text(reason, "Say why the account is needed,")
    _prove(actor, password, code)
    with transaction.atomic():
        _lapse_old()
        if Opening.objects.filter(state__in=[Opening.State.OPEN, Opening.State.CLOSED]).exists():
            raise StandingError("The last opening is not reviewed yet. Somebody who did not open it reviews it first.")
        try:
            with transaction.atomic():
                row = Opening.objects.create(reason=reason.strip(), asked_by=actor, asked_at=timezone.now())
        except IntegrityError as error:
            raise StandingError("It is asked for already. Agree to that instead.") from error
        _agree(row, actor)
        audit.record(actor=actor, action=Action.EMERGENCY_ASKED, target=f"emergency:{row.pk}")
    return row.pk


def agree(*, actor: str, opening_id: int, password: str, code: str) -> sealed.Opened | None:
    """One more person agrees, with both factors. The last one opens it, and is shown how to get in, once."""
    _prove(actor, password, code)
    with transaction.atomic():
        row = _locked(opening_id)
        _agree(row, actor)
        tally = _tally(row)
        audit.record(actor=actor, action=Action.EMERGENCY_AGREED, target=f"emergency:{row.pk}")
        return _open(row, actor) if tally.passed else None


@transaction.atomic
def close(*, actor: str, opening_id: int) -> None:
    """End it before its time; whoever may open it may close it."""
    row = _locked(opening_id)
    if row.state != Opening.State.OPEN:
        raise OverError("It is not open.")
    _close(row, actor)
    audit.record(actor=actor, action=Action.EMERGENCY_CLOSED, target=f"emergency:{row.pk}", outcome="by_hand")


@transaction.atomic
def review(*, actor: str, opening_id: int, finding: str) -> None:
    """Somebody who did not open it has looked at everything it did, and signs for what they found."""
    rules.check_text(finding, "Say what you found,")
    row = _locked(opening_id)
    rules.check_can_review(
        actor=actor,
        may_review=Permission.ACCESS_REVIEW in accounts.permissions_of(actor),
        closed=row.state == Opening.State.CLOSED,
        agreed=_tally(row).agreed,
    )
    row.state, row.reviewed_by, row.reviewed_at = Opening.State.REVIEWED, actor, timezone.now()
    row.finding = finding.strip()
    row.save(update_fields=["state", "reviewed_by", "reviewed_at", "finding"])
    alerting.close(actor=actor, key=ALERT, reason=f"opening {row.pk} is reviewed")
    audit.record(actor=actor, action=Action.EMERGENCY_REVIEWED, target=f"emergency:{row.pk}")


@unaudited("each closing it writes down is recorded by itself")
def sweep(*, actor: str) -> None:
    """Write down what has ended by itself, and let go of what nobody joined."""
    now = timezone.now()
    for pk in Opening.objects.filter(state=Opening.State.OPEN, closes_at__lte=now).values_list("pk", flat=True):
        with transaction.atomic():
            row = _locked(pk)
            if row.state == Opening.State.OPEN:
                _close(row, actor)
                audit.record(actor=actor, action=Action.EMERGENCY_CLOSED, target=f"emergency:{pk}", outcome="by_time")
    with transaction.atomic():
        _lapse_old()


def _prove(actor: str, password: str, code: str) -> None:
    # Outside of any transaction: a wrong code must count even though nothing came of it.
    people.check_password(actor=actor, password=password)
    people.check_code(actor=actor, code=code)


def _agree(row: Opening, actor: str) -> None:
    now = timezone.now()
    rules.check_can_agree(
        actor=actor,
        may_open=Permission.EMERGENCY_OPEN in accounts.permissions_of(actor),
        asked=row.state == Opening.State.ASKED,
        asked_at=row.asked_at,
        now=now,
        tally=_tally(row),
    )
    Consent.objects.create(opening=row, person=actor, at=now)


def _open(row: Opening, actor: str) -> sealed.Opened:
    row.state, row.opened_at = Opening.State.OPEN, timezone.now()
    row.closes_at = row.opened_at + rules.OPEN_FOR
    row.save(update_fields=["state", "opened_at", "closes_at"])
    opened = sealed.unseal(actor=actor, until=row.closes_at)
    agreed = sorted(_tally(row).agreed)
    alerting.open_(
        actor=actor,
        key=ALERT,
        severity=Severity.CRITICAL,
        title="The sealed account was opened",
        detail=f"By {' and '.join(agreed)}. It closes by itself after {rules.OPEN_FOR.seconds // 60} minutes, and is then to be reviewed.",
    )
    audit.record(actor=actor, action=Action.EMERGENCY_OPENED, target=f"emergency:{row.pk}", detail={"agreed": agreed})
    return opened


def _close(row: Opening, actor: str) -> None:
    now = timezone.now()
    row.state, row.closed_at = Opening.State.CLOSED, min(now, row.closes_at or now)
    row.save(update_fields=["state", "closed_at"])
    sealed.seal(actor=actor)


def _tally(row: Opening) -> rules.Tally:
    return rules.Tally(frozenset(row.consents.values_list("person", flat=True)))


def _lapse_old() -> None:
    Opening.objects.filter(state=Opening.State.ASKED, asked_at__lte=timezone.now() - rules.ASKED_FOR).update(
        state=Opening.State.LAPSED
    )


def _locked(opening_id: int) -> Opening:
    # Locked: of two who agree at once, one is the last.
    row = Opening.objects.select_for_update().filter(pk=opening_id).first()
    if row is None:
        raise OverError("There is no such opening.")
    return row
