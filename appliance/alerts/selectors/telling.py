"""Reads of silences, deliveries and channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import Count, Q
from django.utils import timezone

from appliance.alerts import rules
from appliance.alerts.models import Attempt, Delivery, Silence
from provisioning.site_channels import Channel

_ROWS = 50


@dataclass(frozen=True)
class SilenceRow:
    """A silence that still holds."""

    key: str
    by: str
    reason: str
    until: datetime


@dataclass(frozen=True)
class AttemptRow:
    """One try."""

    at: datetime
    code: str
    said: str


@dataclass(frozen=True)
class DeliveryRow:
    """One thing said or to be said on a channel."""

    channel: str
    event: str
    title: str
    state: str
    tries: int
    created_at: datetime
    last: AttemptRow | None


@dataclass(frozen=True)
class ChannelView:
    """A channel of the site file and how it does. `dead`: what was tried lately was not taken."""

    channel: Channel
    waiting: int
    last_taken: datetime | None
    last: AttemptRow | None
    dead: bool


def silences(now: datetime | None = None) -> Mapping[str, SilenceRow]:
    """What holds now, by the fault's key; of several the one that lasts longest."""
    rows = Silence.objects.filter(until__gt=now or timezone.now()).order_by("until", "pk")
    return {row.key: SilenceRow(row.key, row.by, row.reason, row.until) for row in rows}


def silenced_until(key: str, *, now: datetime) -> datetime | None:
    """When what holds for this fault ends; None when nothing does."""
    found = Silence.objects.filter(key=key, until__gt=now).order_by("-until").first()
    return found.until if found else None


def deliveries(limit: int = _ROWS) -> tuple[DeliveryRow, ...]:
    """The newest things said or to be said, each with its last try."""
    rows = list(Delivery.objects.select_related("alert").order_by("-created_at", "-pk")[:limit])
    last = {a.delivery_id: a for a in Attempt.objects.filter(delivery__in=rows).order_by("at", "pk")}
    return tuple(
        DeliveryRow(
            channel=row.channel,
            event=row.event,
            title=row.alert.title if row.alert else "Test of the channel",
            state=Delivery.State(row.state).label,
            tries=row.tries,
            created_at=row.created_at,
            last=_attempt(last.get(row.pk)),
        )
        for row in rows
    )


def channels() -> tuple[ChannelView, ...]:
    """Every channel of the site file."""
    names = [channel.name for channel in settings.SITE.alert_channels]
    if not names:
        return ()
    waiting = dict(
        Delivery.objects.filter(channel__in=names)
        .values_list("channel")
        .annotate(n=Count("pk", filter=Q(state=Delivery.State.WAITING)))
    )
    tries = Attempt.objects.filter(delivery__channel__in=names).select_related("delivery")
    newest = {
        a.delivery.channel: a for a in tries.order_by("delivery__channel", "-at", "-pk").distinct("delivery__channel")
    }
    taken = tries.filter(code="").order_by("delivery__channel", "-at").distinct("delivery__channel")
    last_taken = {attempt.delivery.channel: attempt.at for attempt in taken}
    return tuple(
        ChannelView(
            channel=channel,
            waiting=waiting.get(channel.name, 0),
            last_taken=last_taken.get(channel.name),
            last=_attempt(newest.get(channel.name)),
            dead=bool(newest.get(channel.name) and newest[channel.name].code),
        )
        for channel in settings.SITE.alert_channels
    )


def failures_in_a_row(channel: str) -> int:
    """How many of the latest tries of a channel were not taken, up to as many as make it dead."""
    codes = Attempt.objects.filter(delivery__channel=channel).order_by("-at", "-pk").values_list("code", flat=True)
    count = 0
    for code in codes[: rules.DEAD_AFTER]:
        if not code:
            break
        count += 1
    return count


def message(row: Delivery) -> rules.Message:
    """What is said of it: the alert's own words as they are now, or that this is a test."""
    site, alert = settings.SITE, row.alert
    return rules.Message(
        ref=f"alert_{row.pk}",
        event=row.event,
        key=alert.key if alert else rules.CHANNEL + row.channel,
        severity=alert.severity if alert else rules.Severity.INFO.value,
        title=alert.title if alert else "Test of this channel",
        detail=alert.detail if alert else "Somebody pressed the button on the page of alerts. Nothing is wrong.",
        at=alert.opened_at if alert else row.created_at,
        box=site.name,
        serial=site.serial,
    )


def _attempt(row: Attempt | None) -> AttemptRow | None:
    return AttemptRow(row.at, row.code, row.said) if row else None
