"""What beat rings for: saying what waits to be said, and forgetting what was said long ago."""

from __future__ import annotations

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from appliance.alerts import services, wire
from appliance.alerts.errors import DeliveryError

_TELLER = "alert-teller"


@shared_task(name="appliance.alerts.tasks.deliver", ignore_result=True)
def deliver() -> None:
    """Say what is due on each channel. Nothing at all where the site names none."""
    if not settings.SITE.alert_channels:
        return
    secret = settings.SITE.secret("alert-webhook-key")
    for delivery_id, channel, message in services.due(now=timezone.now()):
        try:
            code, said = "", wire.send(channel, message, secret=secret)
        except DeliveryError as error:
            code, said = error.code, str(error)
        services.settle_delivery(actor=_TELLER, delivery_id=delivery_id, code=code, said=said)


@shared_task(name="appliance.alerts.tasks.forget", ignore_result=True)
def forget() -> None:
    """Delete what was said three months ago."""
    services.forget(now=timezone.now())
