"""The alert table. One open alert per key is a constraint, so two watchers cannot open the same fault twice."""

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
