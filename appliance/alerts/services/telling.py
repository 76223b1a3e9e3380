"""What is told where: rows written with the alert, taken up by the task, ended by what the channel said.

A channel that takes nothing is a fault itself: an alert, which the other channels tell of.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from appliance.alerts import rules, selectors
from appliance.alerts.models import Attempt, Delivery
from appliance.alerts.services import alerts
from appliance.audit.services import unaudited
from provisioning.site_channels import Channel

_MOST_AT_ONCE = 20
_KEPT = timedelta(days=90)


@unaudited("what is told is in its own rows with each try; the alert it tells of is recorded")
@transaction.atomic
def due(*, now: datetime) -> tuple[tuple[int, Channel, rules.Message], ...]:
    """What is to be said now. Each is put off before it is tried, so a crash costs a wait and no storm."""
    channels = {channel.name: channel for channel in settings.SITE.alert_channels}
    waiting = Delivery.objects.select_for_update(skip_locked=True, of=("self",)).select_related("alert")
    found = []
    for row in waiting.filter(state=Delivery.State.WAITING, not_before__lte=now).order_by("not_before")[:_MOST_AT_ONCE]:
        silent = selectors.silenced_until(row.alert.key, now=now) if row.alert else None
        if row.channel not in channels or _is_over(row):
            row.state, row.ended_at = Delivery.State.DROPPED, now
        elif silent is not None:
            row.not_before = silent
        else:
            row.tries += 1
            row.not_before = now + rules.wait_before(row.tries)
            found.append((row.pk, channels[row.channel], selectors.message(row)))
        row.save(update_fields=["state", "ended_at", "tries", "not_before"])
    return tuple(found)


@unaudited("as above; a channel that dies opens an alert, and that is recorded")
@transaction.atomic
def settle_delivery(*, actor: str, delivery_id: int, code: str, said: str) -> None:
    """It was taken (no code), or not: tried again later, or given up. A dead channel rings on the others."""
    row = Delivery.objects.select_for_update().get(pk=delivery_id)
    now = timezone.now()
    Attempt.objects.create(delivery=row, at=now, code=code, said=said[:300])
    if row.state == Delivery.State.WAITING and (not code or row.tries >= rules.MOST_TRIES):
        row.state, row.ended_at = Delivery.State.GIVEN_UP if code else Delivery.State.SENT, now
        row.save(update_fields=["state", "ended_at"])
    key = rules.CHANNEL + row.channel
    if not code:
        alerts.close(actor=actor, key=key, reason="the channel took a message")
    elif selectors.failures_in_a_row(row.channel) >= rules.DEAD_AFTER:
        title = f"Alerts do not get out by {row.channel}"
        alerts.open_(actor=actor, key=key, severity=rules.Severity.CRITICAL, title=title, detail=f"Last try: {said}")


@unaudited("rows of what was said long ago; the alerts stay")
def forget(*, now: datetime) -> None:
    """Delete what ended three months ago."""
    Delivery.objects.filter(ended_at__lt=now - _KEPT).delete()


def _is_over(row: Delivery) -> bool:
    """An alert that opened and closed before anybody was told, as under a silence, is told as nothing; nor is a test
    whose process died.
    """
    return row.alert is None or bool(row.alert.closed_at and row.event != rules.Event.CLOSED)
