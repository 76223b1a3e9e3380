"""The rows of a bundle's life: the import, the release, what serves, and the floors below which nothing may go.

Decides which states can exist at all: each rule that a service keeps is held by a constraint here too. Leaves to
`services` every change of state, and to `changes` who agreed.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

HEX64 = r"^[0-9a-f]{64}$"


class Release(models.Model):
    """Our record of one bundle whose every byte is on our own disk, verified."""

    digest = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=100)
    version = models.PositiveBigIntegerField()
    title = models.CharField(max_length=2000)
    family = models.CharField(max_length=2000)
    manifest = models.JSONField()
    files = models.JSONField()
    verdict = models.JSONField()
    received_by = models.CharField(max_length=150)
    received_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True)

    class Meta:
        """A digest is a release; a name and version mean one digest and no other."""

        ordering: ClassVar = ["name", "-version"]
        constraints: ClassVar = [
            models.CheckConstraint(name="releases_release_digest_hex", condition=Q(digest__regex=HEX64)),
            models.UniqueConstraint(name="releases_release_one_per_version", fields=["name", "version"]),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.digest[:12]})"


class Import(models.Model):
    """One attempt to bring a bundle in, from the press of the button to its end."""

    class State(models.TextChoices):
        """Where the import stands; FAILED is ours or the medium's doing, REFUSED is the bundle's."""

        QUEUED = "queued"
        COPYING = "copying"
        CHECKING = "checking"
        DONE = "done"
        REFUSED = "refused"
        FAILED = "failed"
        CANCELLED = "cancelled"

    LIVE = (State.QUEUED, State.COPYING, State.CHECKING)

    media = models.CharField(max_length=500)
    bundle = models.CharField(max_length=200)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    bytes_total = models.PositiveBigIntegerField(default=0)
    bytes_done = models.PositiveBigIntegerField(default=0)
    code = models.CharField(max_length=60, blank=True, default="")
    message = models.CharField(max_length=1000, blank=True, default="")
    checks = models.JSONField(default=list)
    actor = models.CharField(max_length=150)
    cancel_requested = models.BooleanField(default=False)
    # The fence: a worker that lost its claim finds another number here and stops.
    attempt = models.PositiveIntegerField(default=0)
    created = models.DateTimeField(auto_now_add=True)
    started = models.DateTimeField(null=True)
    finished = models.DateTimeField(null=True)
    release = models.ForeignKey(Release, null=True, on_delete=models.PROTECT, related_name="imports")

    class Meta:
        """An import that ended says why; one bundle is copied by one import at a time."""

        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="releases_import_state",
                condition=Q(state__in=["queued", "copying", "checking", "done", "refused", "failed", "cancelled"]),
            ),
            models.CheckConstraint(
                name="releases_import_done_has_release",
                condition=~Q(state="done") | Q(release__isnull=False),
            ),
            models.CheckConstraint(
                name="releases_import_end_has_reason",
                condition=~Q(state__in=["refused", "failed"]) | ~Q(code=""),
            ),
            models.CheckConstraint(
                name="releases_import_ended_iff_finished",
                condition=Q(state__in=["queued", "copying", "checking"], finished__isnull=True)
                | Q(state__in=["done", "refused", "failed", "cancelled"], finished__isnull=False),
            ),
            models.UniqueConstraint(
                name="releases_import_one_live_per_bundle",
                fields=["bundle"],
                condition=Q(state__in=["queued", "copying", "checking"]),
            ),
        ]

    def __str__(self) -> str:
        return f"import {self.pk} of {self.bundle}: {self.state}"


class TrustRecord(models.Model):
    """The newest of everything this box has ever accepted. One row; a copy lies in a file, and the higher wins."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    root = models.BinaryField()
    timestamp_version = models.PositiveBigIntegerField()
    snapshot_version = models.PositiveBigIntegerField()
    targets_version = models.PositiveBigIntegerField()
    time_floor = models.DateTimeField()
    bundle_versions = models.JSONField()
    # Which content the newest catalogue had: the same number with another content is a fork.
    targets_sha256 = models.CharField(max_length=64, blank=True, default="")
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        """Two rows would be two truths."""

        constraints: ClassVar = [models.CheckConstraint(name="releases_trustrecord_single", condition=Q(id=1))]

    def __str__(self) -> str:
        return f"trust floors: targets {self.targets_version}"


class Deployment(models.Model):
    """A release being served, or about to be, or that was: one approved change, one slot."""

    class State(models.TextChoices):
        """The life of a deployment; each arrow is one service."""

        STARTING = "starting"
        SERVING = "serving"
        DRAINING = "draining"
        RETIRED = "retired"
        FAILED = "failed"

    class Slot(models.TextChoices):
        """Two, so that the next can be proved well before the last one stops."""

        A = "a"
        B = "b"

    LIVE = (State.STARTING, State.SERVING, State.DRAINING)

    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="deployments")
    # A change is executed once: whoever runs it twice meets this constraint.
    change = models.OneToOneField("changes.Change", on_delete=models.PROTECT, related_name="deployment")
    slot = models.CharField(max_length=1, choices=Slot.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.STARTING)
    message = models.CharField(max_length=1000, blank=True, default="")
    code = models.CharField(max_length=60, blank=True, default="")
    # Serving, but the engine is not answering: since when. What to do about it is the supervisor's and the alert's.
    degraded_since = models.DateTimeField(null=True)
    gate = models.JSONField(default=dict)
    created = models.DateTimeField(auto_now_add=True)
    served_at = models.DateTimeField(null=True)
    drain_from = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        """One serves, one starts, one per slot; who served has a time of it, who ended has a time of that."""

        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="releases_deployment_state",
                condition=Q(state__in=["starting", "serving", "draining", "retired", "failed"]),
            ),
            models.CheckConstraint(name="releases_deployment_slot", condition=Q(slot__in=["a", "b"])),
            models.UniqueConstraint(
                name="releases_deployment_one_serving", fields=["state"], condition=Q(state="serving")
            ),
            models.UniqueConstraint(
                name="releases_deployment_one_starting", fields=["state"], condition=Q(state="starting")
            ),
            models.UniqueConstraint(
                name="releases_deployment_one_per_slot",
                fields=["slot"],
                condition=Q(state__in=["starting", "serving"]),
            ),
            # Beside a draining one the next may already wait for the slot; it gets its order when the slot is empty.
            models.UniqueConstraint(
                name="releases_deployment_one_draining_per_slot", fields=["slot"], condition=Q(state="draining")
            ),
            models.CheckConstraint(
                name="releases_deployment_served_at",
                condition=~Q(state__in=["serving", "draining"]) | Q(served_at__isnull=False),
            ),
            models.CheckConstraint(
                name="releases_deployment_ended_at",
                condition=Q(state__in=["starting", "serving", "draining"], ended_at__isnull=True)
                | Q(state__in=["retired", "failed"], ended_at__isnull=False),
            ),
            models.CheckConstraint(
                name="releases_deployment_failed_says_why",
                condition=~Q(state="failed") | ~Q(message=""),
            ),
        ]

    def __str__(self) -> str:
        return f"deployment {self.pk} in slot {self.slot}: {self.state}"
