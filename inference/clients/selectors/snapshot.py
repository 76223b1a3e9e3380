"""One frozen reading of every right, for the doors: keys, what each leaves of its client's grants, and issuers.

The snapshot is what the LAN API decides by, in memory, for a few seconds at most; how fresh it must be is
`inference.admission.standing`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from django.db.models import Prefetch
from django.utils import timezone

from inference.clients import assertions, keys, rules
from inference.clients.errors import ClientRefusedError
from inference.clients.models import ApiKey, AssertionIssuer, AssertionKey, Client
from inference.policy.catalog import Feature, Lane
from inference.policy.rules import Rights

log = logging.getLogger(__name__)

CHANGED = "isoward_clients"


@dataclass(frozen=True)
class Held:
    """A key that opens the door: its rights, until when, from where, and whether it needs a user's name besides."""

    rights: Rights
    expires: datetime
    bounds: rules.Bounds
    assertion_required: bool


@dataclass(frozen=True)
class Snapshot:
    """All rights at one moment. Expiry is asked again at each use, so a key ends on time between two snapshots."""

    by_hash: Mapping[str, Held]
    by_key_id: Mapping[str, Held]
    issuers: Mapping[str, assertions.Issuer]
    """By their `iss`."""

    def of_key(self, plaintext: str, *, now: datetime) -> Held | None:
        """What is behind a presented key; whether it may be used from there, and for whom, is still to be asked.

        The lookup is by hash: how long it takes says nothing about how much of a guess was right.
        """
        if not keys.well_formed(plaintext):
            return None
        return _live(self.by_hash.get(keys.digest(plaintext)), now)

    def of_key_id(self, key_id: str, *, now: datetime) -> Rights | None:
        """The rights of a key named earlier: those it has now, for durable work accepted under it."""
        held = _live(self.by_key_id.get(key_id), now)
        return held.rights if held is not None else None

    def stands(self, rights: Rights, *, now: datetime) -> bool:
        """True while the key, its client's grants and whoever vouched for the user carry these rights."""
        of_key = self.of_key_id(rights.key_id, now=now)
        return (
            of_key is not None
            and rules.covers(of_key, rights)
            and (not rights.vouched_by or self._vouches(rights.vouched_by, now))
        )

    def _vouches(self, vouched_by: str, now: datetime) -> bool:
        return any(
            vouched_by == assertions.voucher(issuer.name, kid) and now < issuer.expires
            for issuer in self.issuers.values()
            for kid in issuer.keys
        )


def _live(held: Held | None, now: datetime) -> Held | None:
    return held if held is not None and now < held.expires else None


def snapshot() -> Snapshot:
    """Every key that opens the door now, and every issuer that counts."""
    now = timezone.now()
    by_hash: dict[str, Held] = {}
    by_key_id: dict[str, Held] = {}
    for key in ApiKey.objects.filter(revoked_at__isnull=True).select_related("client"):
        client = key.client
        if not rules.counts(
            now=now,
            expires=key.expires,
            revoked_at=key.revoked_at,
            client_active=client.state == Client.State.ACTIVE,
        ):
            continue
        scope = scope_of(key)
        rights = rules.narrow(rights_of(client, key_id=key.prefix), scope.only)
        held = Held(rights, key.expires, scope.bounds, client.assertion_required)
        by_hash[key.sha256] = by_key_id[key.prefix] = held
    return Snapshot(MappingProxyType(by_hash), MappingProxyType(by_key_id), MappingProxyType(_issuers()))


def rights_of(client: Client, *, key_id: str = "") -> Rights:
    """All that a client is granted, before any key narrows it."""
    return Rights(
        client=client.name,
        key_id=key_id,
        tasks=frozenset(client.tasks),
        purposes=frozenset(client.purposes),
        lane=Lane(client.lane),
        phi=client.phi,
        features=frozenset(Feature(name) for name in client.features),
        tools=frozenset(client.tools),
    )


def scope_of(key: ApiKey) -> rules.Scope:
    """A key's row as the value that rules decide by."""
    return rules.Scope(
        only=rules.Narrowing(
            tasks=_named(key.tasks),
            purposes=_named(key.purposes),
            lane=Lane(key.lane) if key.lane else None,
            phi=key.phi,
            models=_named(key.served_models),
            features=None if key.features is None else frozenset(Feature(name) for name in key.features),
            tools=_named(key.tools),
        ),
        bounds=rules.Bounds(networks=tuple(key.networks), certificate=key.certificate),
    )


def _named(column: list[str] | None) -> frozenset[str] | None:
    return None if column is None else frozenset(column)


def _issuers() -> dict[str, assertions.Issuer]:
    standing = AssertionKey.objects.filter(retired_at__isnull=True)
    rows = (
        AssertionIssuer.objects.filter(state=AssertionIssuer.State.ACTIVE)
        .select_related("client")
        .prefetch_related(Prefetch("keys", queryset=standing, to_attr="standing"))
    )
    return {
        row.iss: assertions.Issuer(
            name=row.name,
            iss=row.iss,
            client=row.client.name if row.client is not None else "",
            expires=row.expires,
            keys=MappingProxyType(_readable(row.name, row.standing)),
        )
        for row in rows
    }


def _readable(issuer: str, rows: list[AssertionKey]) -> dict[str, assertions.PublicKey]:
    """A key that somebody wrote past our services and that does not load verifies nothing, and stops nobody else."""
    found = {}
    for row in rows:
        try:
            found[row.kid] = assertions.load(row.pem)
        except ClientRefusedError as error:
            log.error("issuer_key_unusable", extra={"issuer": issuer, "code": error.code})
    return found
