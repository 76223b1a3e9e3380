"""The inventory of cards, their samples and faults, the policy, and the sampler's pulse. Null is unknown."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q

from inference.telemetry import rules


class Gpu(models.Model):
    """A card that was seen at least once. It is never deleted: a missing card is named by this row."""

    uuid = models.CharField(max_length=96, unique=True)
    index = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=96)
    serial = models.CharField(max_length=32, blank=True)
    pci = models.CharField(max_length=32, blank=True)
    memory_total = models.BigIntegerField(null=True)
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()
    # What keeps work from it: rules.Hold.
    held = models.CharField(max_length=16, blank=True, default="")
    held_since = models.DateTimeField(null=True, blank=True)
    held_fault = models.CharField(max_length=32, blank=True, default="")
    held_reason = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_hold", condition=Q(held__in=[hold.value for hold in rules.Hold])
            ),
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_held_since_some_time",
                condition=Q(held="", held_since__isnull=True) | (~Q(held="") & Q(held_since__isnull=False)),
            ),
        ]


class GpuHealth(models.Model):
    """The slow counters of one card, as last read."""

    gpu = models.OneToOneField(Gpu, on_delete=models.CASCADE, related_name="health", primary_key=True)
    at = models.DateTimeField()
    ecc_corrected_total = models.BigIntegerField(null=True)
    ecc_uncorrected_total = models.BigIntegerField(null=True)
    retired_pages = models.PositiveIntegerField(null=True)
    retirement_pending = models.BooleanField(null=True)
    remapped_rows = models.PositiveIntegerField(null=True)
    remap_pending = models.BooleanField(null=True)
    remap_failed = models.BooleanField(null=True)
    nvlink_errors = models.BigIntegerField(null=True)
    pcie_replays = models.BigIntegerField(null=True)
    mig = models.BooleanField(null=True)
    # [[pid, bytes or null], ...]; never a name or a command line
    processes = models.JSONField(null=True)


class XidEvent(models.Model):
    """One fault the driver reported, by NVML, the kernel log or both. It stays when the card is gone."""

    gpu = models.ForeignKey(Gpu, on_delete=models.PROTECT, null=True, related_name="xids")
    place = models.CharField(max_length=32)
    xid = models.PositiveIntegerField()
    at = models.DateTimeField()
    by_driver = models.BooleanField()
    by_kernel = models.BooleanField()
    # Which record of the kernel log, so that reading it again after a restart tells nothing twice.
    token = models.CharField(max_length=80, blank=True, default="")
    acknowledged_by = models.CharField(max_length=150, blank=True, default="")
    acknowledged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_told_by_somebody", condition=Q(by_driver=True) | Q(by_kernel=True)
            ),
            models.UniqueConstraint(
                name="%(app_label)s_%(class)s_record_once", fields=["token"], condition=~Q(token="")
            ),
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_taken_by_somebody_at_some_time",
                condition=Q(acknowledged_by="", acknowledged_at__isnull=True)
                | (~Q(acknowledged_by="") & Q(acknowledged_at__isnull=False)),
            ),
        ]
        indexes: ClassVar = [
            models.Index(name="telemetry_xid_newest", fields=["-at"]),
            models.Index(name="telemetry_xid_open", fields=["xid"], condition=Q(acknowledged_at__isnull=True)),
        ]


class FaultPolicy(models.Model):
    """What a change set for one kind of fault; without a row the box's own line holds."""

    fault = models.CharField(max_length=32, unique=True)
    action = models.CharField(max_length=16)
    reason = models.CharField(max_length=300)
    change_id = models.BigIntegerField()
    since = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_fault", condition=Q(fault__in=[kind.value for kind in rules.FaultClass])
            ),
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_action", condition=Q(action__in=[act.value for act in rules.Action])
            ),
        ]


class EngineRestart(models.Model):
    """The engine should be started again because of a fault; the supervisor does it and says when."""

    occasion = models.CharField(max_length=200, unique=True)
    uuid = models.CharField(max_length=96)
    fault = models.CharField(max_length=32)
    asked_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(name="telemetry_restart_wanted", fields=["asked_at"], condition=Q(done_at__isnull=True)),
        ]


class Sample(models.Model):
    """One card at one moment. Raw samples live a day."""

    gpu = models.ForeignKey(Gpu, on_delete=models.CASCADE, related_name="samples", db_index=False)
    at = models.DateTimeField()
    utilisation_percent = models.PositiveSmallIntegerField(null=True)
    memory_used = models.BigIntegerField(null=True)
    temperature_c = models.SmallIntegerField(null=True)
    power_mw = models.PositiveIntegerField(null=True)
    power_limit_mw = models.PositiveIntegerField(null=True)
    clock_sm_mhz = models.PositiveIntegerField(null=True)
    clock_memory_mhz = models.PositiveIntegerField(null=True)
    ecc_corrected = models.BigIntegerField(null=True)
    ecc_uncorrected = models.BigIntegerField(null=True)
    throttle = models.BigIntegerField(null=True)
    energy_mj = models.BigIntegerField(null=True)

    class Meta:
        # Serves the newest samples of one card; and averaging and pruning, whose rows lie in the order of time.
        indexes: ClassVar = [
            models.Index(name="telemetry_sample_newest", fields=["gpu", "-at"]),
            BrinIndex(name="telemetry_sample_time", fields=["at"]),
        ]


class Rollup(models.Model):
    """A card over a minute, ten minutes or an hour. Minutes live a week, ten minutes a month, hours a year."""

    gpu = models.ForeignKey(Gpu, on_delete=models.CASCADE, related_name="rollups", db_index=False)
    # in seconds: 60, 600, 3600
    span = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    readings = models.PositiveIntegerField()
    utilisation_min = models.PositiveSmallIntegerField(null=True)
    utilisation_avg = models.FloatField(null=True)
    utilisation_max = models.PositiveSmallIntegerField(null=True)
    memory_min = models.BigIntegerField(null=True)
    memory_avg = models.FloatField(null=True)
    memory_max = models.BigIntegerField(null=True)
    temperature_min = models.SmallIntegerField(null=True)
    temperature_avg = models.FloatField(null=True)
    temperature_max = models.SmallIntegerField(null=True)
    power_min = models.PositiveIntegerField(null=True)
    power_avg = models.FloatField(null=True)
    power_max = models.PositiveIntegerField(null=True)

    class Meta:
        constraints: ClassVar = [
            # Also serves the chart of one card.
            models.UniqueConstraint(name="%(app_label)s_%(class)s_once", fields=["gpu", "span", "at"]),
            models.CheckConstraint(name="%(app_label)s_%(class)s_span", condition=Q(span__in=[60, 600, 3600])),
        ]


class Pulse(models.Model):
    """The sampler's last turn: one row, so that silence can be seen."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    at = models.DateTimeField()
    started_at = models.DateTimeField()
    driver = models.CharField(max_length=80, blank=True)
    library = models.CharField(max_length=80, blank=True, default="")
    # Why the kernel log cannot be read; empty when it can.
    deaf = models.CharField(max_length=300, blank=True, default="")
    present = models.PositiveSmallIntegerField()
    expected = models.PositiveSmallIntegerField()
    # Why no card could be read, in words for the console; empty when NVML answers.
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="%(app_label)s_%(class)s_is_one_row", condition=Q(id=1)),
        ]
