"""Changes and the approvals that carry them. The database holds the rules of N-of-M too."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from provisioning.approval import LEAST_QUORUM


class Change(models.Model):
    """A proposal. Nothing a signature covers is ever updated after `digest` is set."""

    class State(models.TextChoices):
        """Open until the last approval; then carried out, or refused by what it would change."""

        OPEN = "open", "Open"
        APPROVED = "approved", "Approved"
        EXECUTED = "executed", "Carried out"
        FAILED = "failed", "Failed"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"

    kind = models.CharField(max_length=64)
    subject = models.CharField(max_length=200)
    facts = models.JSONField()
    quorum = models.PositiveSmallIntegerField()
    proposer = models.CharField(max_length=32)
    digest = models.CharField(max_length=64, blank=True)
    reason = models.TextField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    message = models.TextField(blank=True)
    opened_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    executed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="changes_change_quorum", condition=Q(quorum__gte=LEAST_QUORUM)),
            models.CheckConstraint(
                name="changes_change_state",
                condition=Q(state__in=["open", "approved", "executed", "failed", "rejected", "withdrawn"]),
            ),
        ]
        indexes = [
            # Serves the sweep, and the count of what waits.
            models.Index(name="changes_change_pending", fields=["state"], condition=Q(state__in=["open", "approved"])),
        ]


class Approval(models.Model):
    """One person's signature over the change's digest."""

    change = models.ForeignKey(Change, on_delete=models.PROTECT, related_name="approvals")
    proposer = models.CharField(max_length=32)
    approver = models.CharField(max_length=32)
    digest = models.CharField(max_length=64)
    key_id = models.CharField(max_length=16)
    signature = models.BinaryField()
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="changes_approval_not_by_proposer", condition=~Q(approver=F("proposer"))),
            models.UniqueConstraint(name="changes_approval_once_per_person", fields=["change", "approver"]),
            models.UniqueConstraint(name="changes_approval_once_per_key", fields=["change", "key_id"]),
        ]
