"""Testing a channel. Apart from the other services: who opens an alert need not hold every way out of the machine.

The LAN API opens alerts, and this file's imports speak SMTP and SNMP: `services` does not name it.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from appliance.alerts import rules, selectors, wire
from appliance.alerts.errors import DeliveryError, NoSuchChannelError
from appliance.alerts.models import Attempt, Delivery
from appliance.alerts.services import alerts
from appliance.audit import services as audit
from appliance.audit.actions import Action


def test_channel(*, actor: str, name: str) -> str:
    """Say a test there now; returns the answer in words, or raises DeliveryError. Recorded either way."""
    channel = next((item for item in settings.SITE.alert_channels if item.name == name), None)
    if channel is None:
        raise NoSuchChannelError(f"the site file names no channel {name}")
    now = timezone.now()
    row = Delivery.objects.create(
        channel=name,
        event=rules.Event.TEST.value,
        tries=1,
        # Not for the task: it is sent here and now, or dropped if this process dies meanwhile.
        not_before=now + timedelta(hours=1),
        created_at=now,
    )
    try:
        said = wire.send(channel, selectors.message(row), secret=settings.SITE.secret("alert-webhook-key"))
    except DeliveryError as error:
        _end_test(actor=actor, row=row, code=error.code, said=str(error))
        raise
    _end_test(actor=actor, row=row, code="", said=said)
    return said


@transaction.atomic
def _end_test(*, actor: str, row: Delivery, code: str, said: str) -> None:
    now = timezone.now()
    Attempt.objects.create(delivery=row, at=now, code=code, said=said[:300])
    row.state, row.ended_at = Delivery.State.GIVEN_UP if code else Delivery.State.SENT, now
    row.save(update_fields=["state", "ended_at"])
    if not code:
        alerts.close(actor=actor, key=rules.CHANNEL + row.channel, reason="the channel took a test")
    audit.record(actor=actor, action=Action.ALERT_CHANNEL_TESTED, target=f"channel:{row.channel}", outcome=code or "ok")
