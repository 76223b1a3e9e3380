"""Clients, keys and issuers as pages and commands show them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Q
from django.utils import timezone

from inference.clients import assertions, rules
from inference.clients.errors import ClientNotFoundError, ClientRefusedError
from inference.clients.models import ApiKey, AssertionIssuer, Client
from inference.clients.selectors.snapshot import scope_of


@dataclass(frozen=True)
class KeyView:
    """One key as a page shows it."""

    prefix: str
    created: datetime
    expires: datetime
    revoked_at: datetime | None
    usable: bool
    scope: rules.Scope
    replaced: bool
    """Another key takes over from this one."""


@dataclass(frozen=True)
class IssuerKeyView:
    """One public key of an issuer."""

    kid: str
    algorithm: str
    retired_at: datetime | None


@dataclass(frozen=True)
class IssuerView:
    """Who may vouch for users. `client` is empty for a provider that serves every client."""

    name: str
    iss: str
    client: str
    state: str
    expires: datetime
    counts: bool
    keys: tuple[IssuerKeyView, ...]


@dataclass(frozen=True)
class ClientView:
    """One client as a page shows it."""

    name: str
    title: str
    owner: str
    tasks: tuple[str, ...]
    purposes: tuple[str, ...]
    lane: str
    phi: bool
    features: tuple[str, ...]
    tools: tuple[str, ...]
    assertion_required: bool
    state: str
    created: datetime
    keys: tuple[KeyView, ...]

    @property
    def active(self) -> bool:
        return self.state == Client.State.ACTIVE


def clients() -> tuple[ClientView, ...]:
    """Every client, by name."""
    now = timezone.now()
    return tuple(_view(row, now) for row in Client.objects.prefetch_related("keys__replaced_by"))


def listed(
    *, text: str = "", state: str = "", lane: str = "", order: str, offset: int, limit: int, most: int
) -> tuple[tuple[ClientView, ...], int]:
    """Some clients, narrowed and ordered, and how many there are, counted to `most` + 1."""
    rows = Client.objects.prefetch_related("keys__replaced_by")
    if text:
        rows = rows.filter(Q(name__icontains=text) | Q(title__icontains=text) | Q(owner__icontains=text))
    if state:
        rows = rows.filter(state=state)
    if lane:
        rows = rows.filter(lane=lane)
    key = F({"name": "name", "title": "title", "owner": "owner", "lane": "lane", "state": "state"}[order.lstrip("-")])
    by = key.desc() if order.startswith("-") else key.asc()
    now = timezone.now()
    found = tuple(_view(row, now) for row in rows.order_by(by, "name")[offset : offset + limit])
    return found, rows.order_by()[: most + 1].count()


def client(name: str) -> ClientView:
    """One client, or ClientNotFoundError."""
    row = Client.objects.prefetch_related("keys__replaced_by").filter(name=name).first()
    if row is None:
        raise ClientNotFoundError("client_unknown", "there is no client by that name")
    return _view(row, timezone.now())


def issuers(*, of_client: str = "") -> tuple[IssuerView, ...]:
    """Every issuer, or those whose word counts for one client."""
    rows = AssertionIssuer.objects.select_related("client").prefetch_related("keys")
    if of_client:
        rows = rows.filter(Q(client__isnull=True) | Q(client__name=of_client))
    now = timezone.now()
    return tuple(_issuer(row, now) for row in rows)


def _view(row: Client, now: datetime) -> ClientView:
    active = row.state == Client.State.ACTIVE
    return ClientView(
        name=row.name,
        title=row.title,
        owner=row.owner,
        tasks=tuple(row.tasks),
        purposes=tuple(row.purposes),
        lane=row.lane,
        phi=row.phi,
        features=tuple(row.features),
        tools=tuple(row.tools),
        assertion_required=row.assertion_required,
        state=row.state,
        created=row.created,
        keys=tuple(_key(key, now, active=active) for key in row.keys.all()),
    )


def _key(row: ApiKey, now: datetime, *, active: bool) -> KeyView:
    return KeyView(
        prefix=row.prefix,
        created=row.created,
        expires=row.expires,
        revoked_at=row.revoked_at,
        usable=rules.counts(now=now, expires=row.expires, revoked_at=row.revoked_at, client_active=active),
        scope=scope_of(row),
        replaced=hasattr(row, "replaced_by"),
    )


def _issuer(row: AssertionIssuer, now: datetime) -> IssuerView:
    return IssuerView(
        name=row.name,
        iss=row.iss,
        client=row.client.name if row.client is not None else "",
        state=row.state,
        expires=row.expires,
        counts=row.state == AssertionIssuer.State.ACTIVE and now < row.expires,
        keys=tuple(
            IssuerKeyView(kid=key.kid, algorithm=_algorithm(key.pem), retired_at=key.retired_at)
            for key in row.keys.all()
        ),
    )


def _algorithm(pem: str) -> str:
    try:
        return assertions.load(pem).algorithm
    except ClientRefusedError:
        return "unusable"
