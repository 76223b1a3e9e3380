"""Alerts, silences, and what is to be told where. One open alert per key is a constraint: two watchers open it once."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from appliance.alerts import rules


class Alert(models.Model):
    """A fault; the key names what is wrong with what, such as gpu.missing."""

    class Severity(models.TextChoices):
        """The stored spelling of rules.Severity."""

        INFO = rules.Severity.INFO.value, "info"
        WARNING = rules.Severity.WARNING.value, "warning"
        CRITICAL = rules.Severity.CRITICAL.value, "critical"

    key = models.CharField(max_length=200)
    severity = models.CharField(max_length=10, choices=Severity.choices)
    title = models.CharField(max_length=200)
    detail = models.TextField(blank=True)
    opened_at = models.DateTimeField()
    # Names as text: the record outlives the account.
    acknowledged_by = models.CharField(max_length=150, blank=True, default="")
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="%(app_label)s_%(class)s_one_open_per_key",
                fields=["key"],
                condition=Q(closed_at__isnull=True),
            ),
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_severity",
                condition=Q(severity__in=[severity.value for severity in rules.Severity]),
            ),
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_taken_by_somebody_at_some_time",
                condition=Q(acknowledged_by="", acknowledged_at__isnull=True)
                | (~Q(acknowledged_by="") & Q(acknowledged_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_closed_after_opened",
                condition=Q(closed_at__isnull=True) | Q(closed_at__gte=F("opened_at")),
            ),
        ]
        indexes: ClassVar = [models.Index(name="alerts_alert_newest_first", fields=["-opened_at"])]


class Silence(models.Model):
    """Nothing is told of one fault until a time, by somebody and for a reason. The alert stays on its page."""

    key = models.CharField(max_length=200)
    by = models.CharField(max_length=150)
    reason = models.CharField(max_length=300)
    begun_at = models.DateTimeField()
    until = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_has_an_end",
                condition=Q(until__gt=F("begun_at")) & Q(until__lte=F("begun_at") + rules.LONGEST_SILENCE),
            ),
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_by_somebody_for_a_reason", condition=~Q(by="") & ~Q(reason="")
            ),
        ]
        indexes: ClassVar = [models.Index(name="alerts_silence_of_a_key", fields=["key", "-until"])]


class Delivery(models.Model):
    """One thing to say on one channel: written with the alert, sent by a task, kept with how it ended."""

    class State(models.TextChoices):
        """The stored spelling of rules.Delivered."""

        WAITING = rules.Delivered.WAITING.value, "waiting"
        SENT = rules.Delivered.SENT.value, "sent"
        GIVEN_UP = rules.Delivered.GIVEN_UP.value, "given up"
        DROPPED = rules.Delivered.DROPPED.value, "dropped"

    # Null: a test of the channel, which is about no fault.
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, null=True, related_name="deliveries")
    channel = models.CharField(max_length=32)
    event = models.CharField(max_length=16)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField()
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_state", condition=Q(state__in=[state.value for state in rules.Delivered])
            ),
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_ended_at_some_time",
                condition=Q(state="waiting", ended_at__isnull=True) | (~Q(state="waiting") & Q(ended_at__isnull=False)),
            ),
        ]
        indexes: ClassVar = [
            models.Index(name="alerts_delivery_due", fields=["not_before"], condition=Q(state="waiting")),
            models.Index(name="alerts_delivery_newest", fields=["channel", "-created_at"]),
        ]


class Attempt(models.Model):
    """One try of a delivery, and what came of it in words."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempts")
    at = models.DateTimeField()
    # Empty: it was taken.
    code = models.CharField(max_length=32, blank=True)
    said = models.CharField(max_length=300)

    class Meta:
        indexes: ClassVar = [models.Index(name="alerts_attempt_newest", fields=["-at"])]
