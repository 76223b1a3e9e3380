"""Reads of clients: pages for the console, and one frozen snapshot of all rights for the doors.

The snapshot is what the LAN API decides by, in memory, for a few seconds at most; how fresh it must be is
`inference.admission.standing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from django.utils import timezone

from inference.clients import keys, rules
from inference.clients.errors import ClientNotFoundError
from inference.clients.models import ApiKey, Client
from inference.policy.catalog import Feature, Lane
from inference.policy.rules import Rights

CHANGED = "isoward_clients"


@dataclass(frozen=True)
class KeyView:
    """One key as a page shows it."""

    prefix: str
    created: datetime
    expires: datetime
    revoked_at: datetime | None
    usable: bool


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
    state: str
    created: datetime
    keys: tuple[KeyView, ...]

    @property
    def active(self) -> bool:
        return self.state == Client.State.ACTIVE


@dataclass(frozen=True)
class _Held:
    rights: Rights
    expires: datetime


@dataclass(frozen=True)
class Snapshot:
    """All rights at one moment. Expiry is asked again at each use, so a key ends on time between two snapshots."""

    by_hash: Mapping[str, _Held]
    by_key_id: Mapping[str, _Held]

    def of_key(self, plaintext: str, *, now: datetime) -> Rights | None:
        """The rights behind a presented key.

        The lookup is by hash: how long it takes says nothing about how much of a guess was right.
        """
        if not keys.well_formed(plaintext):
            return None
        return _live(self.by_hash.get(keys.digest(plaintext)), now)

    def of_key_id(self, key_id: str, *, now: datetime) -> Rights | None:
        """The rights of a key named earlier: those it has now, for durable work accepted under it."""
        return _live(self.by_key_id.get(key_id), now)


def _live(held: _Held | None, now: datetime) -> Rights | None:
    return held.rights if held is not None and now < held.expires else None


def snapshot() -> Snapshot:
    """Every key that opens the door now."""
    now = timezone.now()
    by_hash: dict[str, _Held] = {}
    by_key_id: dict[str, _Held] = {}
    for key in ApiKey.objects.filter(revoked_at__isnull=True).select_related("client"):
        client = key.client
        if not rules.counts(
            now=now,
            expires=key.expires,
            revoked_at=key.revoked_at,
            client_active=client.state == Client.State.ACTIVE,
        ):
            continue
        rights = Rights(
            client=client.name,
            key_id=key.prefix,
            tasks=frozenset(client.tasks),
            purposes=frozenset(client.purposes),
            lane=Lane(client.lane),
            phi=client.phi,
            features=frozenset(Feature(name) for name in client.features),
            tools=frozenset(client.tools),
        )
        by_hash[key.sha256] = by_key_id[key.prefix] = _Held(rights, key.expires)
    return Snapshot(MappingProxyType(by_hash), MappingProxyType(by_key_id))


def clients() -> tuple[ClientView, ...]:
    """Every client, by name."""
    now = timezone.now()
    return tuple(_view(row, now) for row in Client.objects.prefetch_related("keys"))


def client(name: str) -> ClientView:
    """One client, or ClientNotFoundError."""
    row = Client.objects.prefetch_related("keys").filter(name=name).first()
    if row is None:
        raise ClientNotFoundError("client_unknown", "there is no client by that name")
    return _view(row, timezone.now())


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
        state=row.state,
        created=row.created,
        keys=tuple(
            KeyView(
                prefix=key.prefix,
                created=key.created,
                expires=key.expires,
                revoked_at=key.revoked_at,
                usable=rules.counts(now=now, expires=key.expires, revoked_at=key.revoked_at, client_active=active),
            )
            for key in row.keys.all()
        ),
    )
