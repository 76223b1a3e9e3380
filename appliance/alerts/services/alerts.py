"""Open, close, take on and silence alerts. Each act is a row here and a row in the audit log, in one transaction.

What is to be told of it is written in the same transaction, so no fault is recorded and then told nobody.

Nothing here decides whether something is wrong: watchers do, and call open_ and close with what they found.
Opening what is open and closing what is closed change nothing, so a watcher may repeat itself.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.alerts import rules, selectors
from appliance.alerts.errors import NoSuchAlertError
from appliance.alerts.models import Alert, Delivery, Silence
from appliance.audit import services as audit
from appliance.audit.actions import Action


@transaction.atomic
def open_(*, actor: str, key: str, severity: rules.Severity, title: str, detail: str = "") -> rules.Alert:
    """Make the fault known, or bring the open alert up to date. It never becomes less urgent while it stands."""
    row = Alert.objects.select_for_update().filter(key=key, closed_at__isnull=True).first()
    if row is None:
        new = _insert(key=key, severity=severity, title=title, detail=detail)
        if new is not None:
            audit.record(actor=actor, action=Action.ALERT_OPENED, target=key, detail={"severity": severity.value})
            _tell(new, rules.Event.OPENED)
            return selectors.value(new)
        row = Alert.objects.select_for_update().get(key=key, closed_at__isnull=True)

    worse = severity.rank > rules.Severity(row.severity).rank
    row.detail = detail
    if worse:
        row.severity, row.title = severity.value, title
        # Whoever took it on took on the milder fault; it needs a new look.
        row.acknowledged_by, row.acknowledged_at = "", None
        # So does whoever silenced it: the worse fault is told.
        Silence.objects.filter(key=key, until__gt=timezone.now()).update(until=timezone.now())
    row.save(update_fields=["detail", "severity", "title", "acknowledged_by", "acknowledged_at"])
    if worse:
        audit.record(actor=actor, action=Action.ALERT_WORSENED, target=key, detail={"severity": severity.value})
        _tell(row, rules.Event.WORSENED)
    return selectors.value(row)


@transaction.atomic
def close(*, actor: str, key: str, reason: str) -> bool:
    """The fault is over. False means that no alert with this key was open."""
    now = timezone.now()
    # Watchers ask this every second about what is not open: the lock is taken only by what is.
    row = Alert.objects.select_for_update().filter(key=key, closed_at__isnull=True).first()
    if row is None:
        return False
    row.closed_at = now
    row.save(update_fields=["closed_at"])
    audit.record(actor=actor, action=Action.ALERT_CLOSED, target=key, detail={"reason": reason})
    if selectors.silenced_until(key, now=now) is None:
        _tell(row, rules.Event.CLOSED)
    return True


@transaction.atomic
def acknowledge(*, actor: str, alert_id: int) -> rules.Alert:
    """Somebody takes the alert on. It stays open until the fault is over."""
    row = Alert.objects.select_for_update().filter(pk=alert_id).first()
    if row is None:
        raise NoSuchAlertError(f"there is no alert {alert_id}")
    rules.check_can_acknowledge(selectors.value(row), actor=actor)
    if row.acknowledged_by == actor:
        return selectors.value(row)
    row.acknowledged_by, row.acknowledged_at = actor, timezone.now()
    row.save(update_fields=["acknowledged_by", "acknowledged_at"])
    audit.record(actor=actor, action=Action.ALERT_ACKNOWLEDGED, target=row.key)
    return selectors.value(row)


@transaction.atomic
def silence(*, actor: str, alert_id: int, reason: str, hours: int) -> rules.Alert:
    """Tell nobody of this fault for so many hours. It stays on its page; it is told when they are over and it stands."""
    row = Alert.objects.select_for_update().filter(pk=alert_id).first()
    if row is None:
        raise NoSuchAlertError(f"there is no alert {alert_id}")
    rules.check_can_silence(selectors.value(row), reason=reason, hours=hours)
    now = timezone.now()
    until = now + timedelta(hours=hours)
    Silence.objects.create(key=row.key, by=actor, reason=reason.strip()[:300], begun_at=now, until=until)
    audit.record(
        actor=actor,
        action=Action.ALERT_SILENCED,
        target=row.key,
        detail={"reason": reason.strip()[:300], "hours": hours},
    )
    return selectors.value(row)


def _tell(row: Alert, event: rules.Event) -> None:
    """One row for each channel that tells of it; the task sends them."""
    now, severity = timezone.now(), rules.Severity(row.severity)
    Delivery.objects.bulk_create(
        Delivery(alert=row, channel=channel.name, event=event.value, not_before=now, created_at=now)
        for channel in settings.SITE.alert_channels
        if rules.is_told(key=row.key, severity=severity, channel=channel.name, least=channel.least)
    )


def _insert(*, key: str, severity: rules.Severity, title: str, detail: str) -> Alert | None:
    """None when an alert with this key is already open. The constraint decides, so two watchers cannot both win."""
    try:
        with transaction.atomic():
            return Alert.objects.create(
                key=key, severity=severity.value, title=title, detail=detail, opened_at=timezone.now()
            )
    except IntegrityError:
        if Alert.objects.filter(key=key, closed_at__isnull=True).exists():
            return None
        raise
