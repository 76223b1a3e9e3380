"""Each opening of the sealed account, and who agreed to it. Names as text: they outlive the accounts."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from appliance.emergency import rules


class Opening(models.Model):
    """One time the account was asked for; the database lets one stand at a time."""

    class State(models.TextChoices):
        """Asked for; open; closed and to be reviewed; reviewed; or nobody joined."""

        ASKED = "asked", "Asked for"
        OPEN = "open", "Open"
        CLOSED = "closed", "To be reviewed"
        REVIEWED = "reviewed", "Reviewed"
        LAPSED = "lapsed", "Nobody joined"

    state = models.CharField(max_length=16, choices=State.choices, default=State.ASKED)
    reason = models.CharField(max_length=rules.MOST_TEXT)
    asked_by = models.CharField(max_length=32)
    asked_at = models.DateTimeField()
    opened_at = models.DateTimeField(null=True, blank=True)
    closes_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    reviewed_by = models.CharField(max_length=32, blank=True, default="")
    reviewed_at = models.DateTimeField(null=True, blank=True)
    finding = models.CharField(max_length=rules.MOST_TEXT, blank=True, default="")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="emergency_opening_state", condition=Q(state__in=["asked", "open", "closed", "reviewed", "lapsed"])
            ),
            models.UniqueConstraint(
                models.ExpressionWrapper(Q(opened_at__isnull=True), output_field=models.BooleanField()),
                name="emergency_opening_one_asked",
                condition=Q(state="asked"),
            ),
            # Opened once until somebody has looked: open and to be reviewed are one place.
            models.UniqueConstraint(
                models.ExpressionWrapper(Q(opened_at__isnull=False), output_field=models.BooleanField()),
                name="emergency_opening_one_unreviewed",
                condition=Q(state__in=["open", "closed"]),
            ),
            models.CheckConstraint(
                name="emergency_opening_open_has_its_end",
                condition=~Q(state__in=["open", "closed", "reviewed"])
                | Q(opened_at__isnull=False, closes_at__lte=models.F("opened_at") + rules.OPEN_FOR),
            ),
            models.CheckConstraint(
                name="emergency_opening_reviewed_by_somebody",
                condition=~Q(state="reviewed") | (Q(reviewed_at__isnull=False) & ~Q(reviewed_by="") & ~Q(finding="")),
            ),
        ]


class Consent(models.Model):
    """One person who showed both factors for one opening."""

    opening = models.ForeignKey(Opening, on_delete=models.PROTECT, related_name="consents")
    person = models.CharField(max_length=32)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="emergency_consent_once_per_person", fields=["opening", "person"])]
