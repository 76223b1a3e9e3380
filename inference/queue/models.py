"""A job: accepted work, the truth about it, and its record and result as ciphertext only."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class Job(models.Model):
    """One request to be answered later, exactly once."""

    class State(models.TextChoices):
        """QUEUED and RUNNING may still change; the others are the end."""

        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    ref = models.CharField(max_length=28, unique=True)
    client = models.CharField(max_length=64)
    key_id = models.CharField(max_length=12)
    task = models.CharField(max_length=64)
    purpose = models.CharField(max_length=16)
    state = models.CharField(max_length=16, choices=State.choices, default=State.QUEUED)
    code = models.CharField(max_length=64, blank=True)

    # The fence: a worker may write only under the attempt it claimed.
    attempt = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    # An intent of this attempt is on record and its outcome is not.
    intent_open = models.BooleanField(default=False)
    cancel_requested = models.BooleanField(default=False)
    worker = models.CharField(max_length=64, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField()
    rung_at = models.DateTimeField()

    payload = models.BinaryField(null=True)
    result = models.BinaryField(null=True)
    idempotency_hash = models.CharField(max_length=64, null=True)  # noqa: DJ001 - null: no key, and so never equal
    body_hmac = models.CharField(max_length=64)

    created = models.DateTimeField(auto_now_add=True)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="queue_job_state",
                condition=Q(state__in=["queued", "running", "succeeded", "failed", "cancelled"]),
            ),
            models.CheckConstraint(
                name="queue_job_running_has_lease",
                condition=(Q(state="running") & Q(lease_until__isnull=False))
                | (~Q(state="running") & Q(lease_until__isnull=True)),
            ),
            models.CheckConstraint(
                name="queue_job_intent_while_running", condition=Q(intent_open=False) | Q(state="running")
            ),
            models.CheckConstraint(
                name="queue_job_unfinished_has_payload",
                condition=Q(payload__isnull=False) | Q(state__in=["succeeded", "failed", "cancelled"]),
            ),
            models.CheckConstraint(
                name="queue_job_result_of_success", condition=Q(result__isnull=True) | Q(state="succeeded")
            ),
            models.UniqueConstraint(name="queue_job_once_per_key", fields=["client", "idempotency_hash"]),
        ]
        indexes = [
            # the next to run; a position in the line; how deep and how old the line is
            models.Index(name="queue_job_waiting", fields=["id"], condition=Q(state="queued")),
            # the sweep's search for dead workers
            models.Index(name="queue_job_leases", fields=["lease_until"], condition=Q(state="running")),
            # how much a client has in the queue
            models.Index(name="queue_job_of_client", fields=["client", "state"]),
            # results whose life is over; the rate
            models.Index(name="queue_job_finished", fields=["finished"], condition=Q(finished__isnull=False)),
        ]
