"""Accepted work, the truth about it, and what was asked and answered as ciphertext only.

A job stands alone or is one line of a batch. A batch's input is a file, in sealed pieces; its output is no file of its
own: it is read from the jobs.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone

from inference.queue import rules


class File(models.Model):
    """What a client has stored for a batch. The name is the caller's text, and so it is sealed too."""

    ref = models.CharField(max_length=32, unique=True)
    client = models.CharField(max_length=64)
    name = models.BinaryField()
    size = models.BigIntegerField(default=0)
    lines = models.PositiveIntegerField(default=0)
    # What whoever stored it might ask: nobody with less may have it.
    rights = models.BinaryField(null=True)
    ready = models.BooleanField(default=False)
    created = models.DateTimeField(auto_now_add=True)
    # When its last bytes were kept: an upload whose process or database was lost is not open any more.
    touched = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [
            # a client's list; how much it has stored
            models.Index(name="queue_file_of_client", fields=["client", "-id"]),
            # files whose life is over, and uploads that never ended
            models.Index(name="queue_file_created", fields=["created"]),
        ]


class FilePiece(models.Model):
    """Some sealed bytes of a file: small enough that nobody ever holds the whole."""

    file = models.ForeignKey(File, on_delete=models.CASCADE, related_name="pieces", db_index=False)
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(name="queue_filepiece_once", fields=["file", "number"])]


class Batch(models.Model):
    """Many requests handed in together. How far it is stands in its jobs; the counts are kept once it has ended.

    While it is VALIDATING it has no jobs yet: its lines are still in the file it names, which is kept for that.
    """

    class State(models.TextChoices):
        """OpenAI's words. VALIDATING, IN_PROGRESS and CANCELLING may still change."""

        VALIDATING = "validating"
        FAILED = "failed"
        IN_PROGRESS = "in_progress"
        CANCELLING = "cancelling"
        COMPLETED = "completed"
        CANCELLED = "cancelled"
        EXPIRED = "expired"

    ref = models.CharField(max_length=32, unique=True)
    client = models.CharField(max_length=64)
    key_id = models.CharField(max_length=12)
    endpoint = models.CharField(max_length=32)
    # A name and no foreign key: the file may be deleted first.
    input_file = models.CharField(max_length=32)
    metadata = models.BinaryField(null=True)
    # What whoever handed it in might ask at that moment: each line is decided by these, and by the key's own again later.
    rights = models.BinaryField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.VALIDATING)
    total = models.PositiveIntegerField()
    succeeded = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    rung_at = models.DateTimeField()
    idempotency_hash = models.CharField(max_length=64, null=True)  # noqa: DJ001 - null: no key, and so never equal
    body_hmac = models.CharField(max_length=64)

    created = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField()
    started = models.DateTimeField(null=True, blank=True)
    cancelling = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="queue_batch_state",
                condition=Q(
                    state__in=["validating", "failed", "in_progress", "cancelling", "completed", "cancelled", "expired"]
                ),
            ),
            models.CheckConstraint(
                name="queue_batch_finished_is_the_end",
                condition=(Q(state__in=["validating", "in_progress", "cancelling"]) & Q(finished__isnull=True))
                | (~Q(state__in=["validating", "in_progress", "cancelling"]) & Q(finished__isnull=False)),
            ),
            models.UniqueConstraint(name="queue_batch_once_per_key", fields=["client", "idempotency_hash"]),
        ]
        indexes = [
            # a client's list
            models.Index(name="queue_batch_of_client", fields=["client", "-id"]),
            # the sweep; how much a client has unfinished
            models.Index(name="queue_batch_open", fields=["rung_at"], condition=Q(finished__isnull=True)),
        ]


class Webhook(models.Model):
    """Where one client is told that its work has ended. Registered by staff; one for each client."""

    client = models.CharField(max_length=64, unique=True)
    url = models.CharField(max_length=256)
    secret = models.BinaryField()
    created = models.DateTimeField(auto_now_add=True)


class Telling(models.Model):
    """One thing to be told, until it was taken or given up."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="tellings")
    # Made of what is told: finding the same news twice makes no second row.
    ref = models.CharField(max_length=68, unique=True)
    subject = models.CharField(max_length=32)
    event = models.CharField(max_length=32)
    tries = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField()
    # When the work ended.
    created = models.DateTimeField()
    ended = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            # what is still to be told, the longest due first
            models.Index(name="queue_telling_due", fields=["not_before"], condition=Q(ended__isnull=True)),
        ]


class Pause(models.Model):
    """The durable lane is stopped: while this row is there, no worker takes anything new from it."""

    class Lane(models.TextChoices):
        """Only durable work waits in rows; who waits for an answer is answered or refused at once."""

        BATCH = "batch"

    lane = models.CharField(max_length=16, choices=Lane.choices, unique=True)
    by = models.CharField(max_length=150)
    reason = models.CharField(max_length=500)
    since = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="queue_pause_lane", condition=Q(lane__in=["batch"])),
            models.CheckConstraint(name="queue_pause_says_why", condition=~Q(reason="")),
        ]


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
    # Written with its batch in one transaction and deleted with it: a check per row would be most of the cost.
    batch = models.ForeignKey(
        Batch, null=True, on_delete=models.CASCADE, related_name="jobs", db_index=False, db_constraint=False
    )
    # Which line of the file, from 1.
    line = models.PositiveIntegerField(null=True, blank=True)
    # The caller's own name for the line: text of the caller's, and so sealed.
    custom_id = models.BinaryField(null=True)
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

    # What whoever handed it in might ask, of what the work takes. A line's are its batch's.
    rights = models.BinaryField(null=True)
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
            # A failed job's result is the refusal in words: of a line that could not be read, which field it was.
            models.CheckConstraint(
                name="queue_job_result_of_an_end",
                condition=Q(result__isnull=True) | Q(state__in=["succeeded", "failed"]),
            ),
            models.CheckConstraint(
                name="queue_job_line_of_a_batch",
                condition=Q(batch__isnull=True, line__isnull=True) | Q(batch__isnull=False, line__isnull=False),
            ),
            models.UniqueConstraint(
                name="queue_job_key_once",
                fields=["client", "idempotency_hash"],
                condition=Q(idempotency_hash__isnull=False),
            ),
            # Also: a slice's next lines; a batch's counts; its output in order.
            models.UniqueConstraint(
                name="queue_job_line_once", fields=["batch", "line"], condition=Q(batch__isnull=False)
            ),
        ]
        indexes = [
            # the next to run; a position in the line; how deep and how old the line is
            models.Index(name="queue_job_waiting", fields=["id"], condition=Q(state="queued")),
            # the sweep's search for dead workers
            models.Index(name="queue_job_leases", fields=["lease_until"], condition=Q(state="running")),
            # a client's list; how much it has in the queue
            models.Index(name="queue_job_alone", fields=["client", "id"], condition=Q(batch__isnull=True)),
            # results whose life is over; the rate
            models.Index(name="queue_job_finished", fields=["finished"], condition=Q(finished__isnull=False)),
        ]

    def end_attempt(self, outcome: str, now: datetime) -> None:
        """Where the row goes after an attempt that ended so. The caller saves it."""
        self.intent_open = False
        self.failures += rules.is_failure(outcome)
        then = rules.after(outcome, failures=self.failures, cancel_requested=self.cancel_requested)
        self.state, self.code, self.lease_until, self.worker = then.state, then.code, None, ""
        if then.state == self.State.QUEUED:
            self.wait(now + then.delay)
        else:
            self.finished, self.payload = now, None

    def wait(self, until: datetime) -> None:
        """Not before that moment; the first sweep after it rings."""
        self.not_before, self.rung_at = until, until - rules.RING_AGAIN

    def bury(self, now: datetime) -> None:
        """Its worker is gone. Whether the engine answered is not known; an attempt that never began is not counted."""
        if self.intent_open:
            self.end_attempt("unknown", now)
        else:
            self.state, self.lease_until, self.worker = self.State.QUEUED, None, ""
        if self.state == self.State.QUEUED:
            self.wait(now - timedelta(seconds=1))  # it lost time already: ring in this very sweep
