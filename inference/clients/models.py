"""Clinical applications and their keys. A key's text is never here, only its SHA-256."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from inference.policy.catalog import FEATURES, LANES, PURPOSES, TASKS


class Client(models.Model):
    """One clinical application, and what the hospital grants it."""

    class State(models.TextChoices):
        """Suspended stops every key of the client at once."""

        ACTIVE = "active"
        SUSPENDED = "suspended"

    class Lane(models.TextChoices):
        """The lane all of its requests use."""

        STAT = "stat"
        INTERACTIVE = "interactive"
        BATCH = "batch"

    name = models.SlugField(max_length=64, unique=True)
    title = models.CharField(max_length=120)
    owner = models.CharField(max_length=120)
    tasks = ArrayField(models.CharField(max_length=64))
    purposes = ArrayField(models.CharField(max_length=16))
    lane = models.CharField(max_length=16, choices=Lane.choices)
    phi = models.BooleanField()
    features = ArrayField(models.CharField(max_length=16), default=list, blank=True)
    # The names of functions its requests may offer to the model (S0-4).
    tools = ArrayField(models.CharField(max_length=64), default=list, blank=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.ACTIVE)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(name="clients_client_state", condition=Q(state__in=["active", "suspended"])),
            models.CheckConstraint(name="clients_client_lane", condition=Q(lane__in=list(LANES))),
            models.CheckConstraint(
                name="clients_client_purposes",
                condition=Q(purposes__contained_by=list(PURPOSES), purposes__len__gt=0),
            ),
            models.CheckConstraint(name="clients_client_features", condition=Q(features__contained_by=list(FEATURES))),
            models.CheckConstraint(
                name="clients_client_tasks", condition=Q(tasks__contained_by=sorted(TASKS), tasks__len__gt=0)
            ),
        ]


class ApiKey(models.Model):
    """One key of a client. Several may overlap, so that a key can be changed without a gap."""

    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="keys")
    prefix = models.CharField(max_length=12, unique=True)
    sha256 = models.CharField(max_length=64, unique=True)
    created = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created"]
        constraints = [
            models.CheckConstraint(name="clients_apikey_hash", condition=Q(sha256__regex="^[0-9a-f]{64}$")),
            models.CheckConstraint(name="clients_apikey_life", condition=Q(expires__gt=F("created"))),
        ]
