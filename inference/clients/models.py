"""Clinical applications, their keys, and who may vouch for their users. A key's text is never here, only its SHA-256."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Q

from inference.clients.rules import MOST_NETWORKS, Network
from inference.policy.catalog import FEATURES, LANES, PURPOSES, TASKS

if TYPE_CHECKING:
    # Django's fields take no type arguments at run time.
    _Field = models.Field[str | Network, Network]
else:
    _Field = models.Field


class NetworkField(_Field):
    """A network as PostgreSQL's own `cidr`: the database refuses what is no network, and one with host bits set."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "cidr"

    def get_prep_value(self, value: str | Network | None) -> str | None:
        return None if value is None else str(value)

    def from_db_value(self, value: str | None, _expression: object, _connection: object) -> Network | None:
        # Django asks its driver for the text of a cidr.
        return None if value is None else ip_network(value)


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
    # Each of its requests must carry a signed statement of who asks (C4).
    assertion_required = models.BooleanField(default=False)
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
    """One key of a client. Several may overlap, so that a key can be changed without a gap.

    The columns of its scope are null, or empty for the lane, where it narrows nothing.
    """

    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="keys")
    prefix = models.CharField(max_length=12, unique=True)
    sha256 = models.CharField(max_length=64, unique=True)
    created = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    # The key it takes over from. One to one: a key is replaced once, or nobody knows which one is next.
    replaces = models.OneToOneField("self", on_delete=models.PROTECT, null=True, related_name="replaced_by")

    tasks = ArrayField(models.CharField(max_length=64), null=True)
    purposes = ArrayField(models.CharField(max_length=16), null=True)
    lane = models.CharField(max_length=16, choices=Client.Lane.choices, default="", blank=True)
    phi = models.BooleanField(default=True)
    served_models = ArrayField(models.CharField(max_length=128), null=True)
    features = ArrayField(models.CharField(max_length=16), null=True)
    tools = ArrayField(models.CharField(max_length=64), null=True)
    networks = ArrayField(NetworkField(), default=list, blank=True)
    certificate = models.CharField(max_length=64, default="", blank=True)

    class Meta:
        ordering = ["-created"]
        constraints = [
            models.CheckConstraint(name="clients_apikey_hash", condition=Q(sha256__regex="^[0-9a-f]{64}$")),
            models.CheckConstraint(name="clients_apikey_life", condition=Q(expires__gt=F("created"))),
            models.CheckConstraint(
                name="clients_apikey_tasks",
                condition=Q(tasks__isnull=True) | Q(tasks__contained_by=sorted(TASKS), tasks__len__gt=0),
            ),
            models.CheckConstraint(
                name="clients_apikey_purposes",
                condition=Q(purposes__isnull=True) | Q(purposes__contained_by=list(PURPOSES), purposes__len__gt=0),
            ),
            models.CheckConstraint(name="clients_apikey_lane", condition=Q(lane__in=["", *LANES])),
            models.CheckConstraint(
                name="clients_apikey_features",
                condition=Q(features__isnull=True) | Q(features__contained_by=list(FEATURES)),
            ),
            models.CheckConstraint(name="clients_apikey_networks", condition=Q(networks__len__lte=MOST_NETWORKS)),
            models.CheckConstraint(
                name="clients_apikey_certificate", condition=Q(certificate__regex="^([0-9a-f]{64})?$")
            ),
            models.CheckConstraint(name="clients_apikey_not_itself", condition=~Q(replaces=F("id"))),
        ]


class AssertionIssuer(models.Model):
    """Who may say on whose behalf a request is made: the hospital's identity provider, or an app for itself."""

    class State(models.TextChoices):
        """Suspended: nothing it signed counts, running work included."""

        ACTIVE = "active"
        SUSPENDED = "suspended"

    name = models.SlugField(max_length=64, unique=True)
    iss = models.CharField(max_length=255, unique=True)
    # An app that signs for its own users vouches for nobody else's; null is an identity provider of the house.
    client = models.ForeignKey(Client, on_delete=models.PROTECT, null=True, related_name="issuers")
    state = models.CharField(max_length=16, choices=State.choices, default=State.ACTIVE)
    created = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="clients_assertionissuer_state", condition=Q(state__in=["active", "suspended"])
            ),
            models.CheckConstraint(name="clients_assertionissuer_life", condition=Q(expires__gt=F("created"))),
            models.CheckConstraint(name="clients_assertionissuer_iss", condition=~Q(iss="")),
        ]


class AssertionKey(models.Model):
    """One public key of an issuer, under the `kid` its assertions name. Two may overlap while the issuer changes keys."""

    issuer = models.ForeignKey(AssertionIssuer, on_delete=models.PROTECT, related_name="keys")
    kid = models.CharField(max_length=128)
    pem = models.TextField()
    # Of the key itself: the same key under two names, or of two issuers, could not be told apart in a signature.
    sha256 = models.CharField(max_length=64, unique=True)
    created = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["created"]
        constraints = [
            models.UniqueConstraint(name="clients_assertionkey_kid", fields=["issuer", "kid"]),
            models.CheckConstraint(name="clients_assertionkey_hash", condition=Q(sha256__regex="^[0-9a-f]{64}$")),
        ]
