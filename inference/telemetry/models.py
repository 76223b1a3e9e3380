"""The inventory of cards, their samples, and the sampler's own pulse. Every nullable number: null is unknown."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q


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


class Sample(models.Model):
    """One card at one moment. Raw samples live a day."""

    gpu = models.ForeignKey(Gpu, on_delete=models.CASCADE, related_name="samples")
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
        # Serves the newest samples of one card, and the pruning of old ones.
        indexes: ClassVar = [
            models.Index(name="telemetry_sample_newest", fields=["gpu", "-at"]),
            models.Index(name="telemetry_sample_at", fields=["at"]),
        ]


class Pulse(models.Model):
    """The sampler's last turn: one row, so that silence can be seen."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    at = models.DateTimeField()
    started_at = models.DateTimeField()
    driver = models.CharField(max_length=80, blank=True)
    present = models.PositiveSmallIntegerField()
    expected = models.PositiveSmallIntegerField()
    # Why no card could be read, in words for the console; empty when NVML answers.
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="%(app_label)s_%(class)s_is_one_row", condition=Q(id=1)),
        ]
