"""Access reviews and what was decided in them. Names as text: a review outlives the accounts it is about."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from appliance.reviews import rules


class Review(models.Model):
    """One look at everybody's access. Once it is signed nothing in it changes."""

    class State(models.TextChoices):
        """Open until somebody signs it."""

        OPEN = "open", "Open"
        SIGNED = "signed", "Signed"

    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    opened_by = models.CharField(max_length=32)
    opened_at = models.DateTimeField()
    signed_by = models.CharField(max_length=32, blank=True, default="")
    signed_at = models.DateTimeField(null=True, blank=True)
    digest = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(name="reviews_review_one_open", fields=["state"], condition=Q(state="open")),
            models.CheckConstraint(
                name="reviews_review_signed_whole",
                condition=Q(state="open", signed_by="", signed_at__isnull=True, digest="")
                | (Q(state="signed", signed_at__isnull=False) & ~Q(signed_by="") & Q(digest__regex=r"^[0-9a-f]{64}$")),
            ),
        ]


class Decision(models.Model):
    """What one reviewer said of one person, and what that person could do when it was said."""

    class Verdict(models.TextChoices):
        """The stored spelling of rules.Verdict."""

        KEEP = rules.Verdict.KEEP.value, "Keep"
        REVOKE = rules.Verdict.REVOKE.value, "Revoke"

    review = models.ForeignKey(Review, on_delete=models.PROTECT, related_name="decisions")
    username = models.CharField(max_length=32)
    verdict = models.CharField(max_length=16, choices=Verdict.choices)
    reason = models.CharField(max_length=rules.MOST_REASON)
    decided_by = models.CharField(max_length=32)
    decided_at = models.DateTimeField()
    facts = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="reviews_decision_one_per_person", fields=["review", "username"]),
            models.CheckConstraint(name="reviews_decision_not_ones_own", condition=~Q(decided_by=F("username"))),
            models.CheckConstraint(name="reviews_decision_verdict", condition=Q(verdict__in=["keep", "revoke"])),
            models.CheckConstraint(name="reviews_decision_reason", condition=~Q(reason="")),
        ]
