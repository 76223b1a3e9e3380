"""Issue, rotate and revoke keys. A key's text leaves here once, in a return value; nothing keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.actions import Action
from inference.clients import keys, rules
from inference.clients.errors import ClientNotFoundError, ClientRefusedError
from inference.clients.models import ApiKey, Client
from inference.clients.selectors.snapshot import rights_of, scope_of
from inference.clients.services import doors

_EVERYTHING = rules.Scope()
_YEAR = timedelta(days=365)


@dataclass(frozen=True)
class IssuedKey:
    """A new key, to be shown once."""

    client: str
    prefix: str
    expires: datetime
    plaintext: str = field(repr=False)


@transaction.atomic
def issue_key(*, actor: str, client: str, life: timedelta = _YEAR, scope: rules.Scope = _EVERYTHING) -> IssuedKey:
    """A new key for a client. Earlier keys go on until they are revoked or expire, so keys can overlap."""
    rules.check_life(life)
    row = doors.locked(client)
    rules.check_scope(scope, rights_of(row))
    issued = _insert(row, life=life, scope=scope)
    doors.tell()
    audit.record(
        actor=actor,
        action=Action.CLIENT_KEY_ISSUED,
        target=issued.prefix,
        client=client,
        detail={"expires": issued.expires.isoformat(), "scope": _facts(scope)},
    )
    return issued


@transaction.atomic
def rotate_key(*, actor: str, prefix: str, overlap: timedelta, life: timedelta = _YEAR) -> IssuedKey:
    """A new key with the scope of an old one, which goes on for the overlap and never longer than it would have."""
    rules.check_life(life)
    rules.check_overlap(overlap)
    # The client before the key, as everywhere else: two locks taken in two orders wait for each other.
    client = doors.locked(_owner(prefix))
    old, now = ApiKey.objects.select_for_update().get(prefix=prefix), timezone.now()
    if old.revoked_at is not None or old.expires <= now:
        raise ClientRefusedError("key_ended", "that key has ended; issue a new one")
    if ApiKey.objects.filter(replaces=old).exists():
        raise ClientRefusedError("key_replaced", "that key has been replaced already; rotate the one that replaced it")
    issued = _insert(client, life=life, scope=scope_of(old), replaces=old)
    # A key that ends before it began is not a row the database takes, however short the overlap.
    old.expires = max(min(old.expires, now + overlap), old.created + timedelta(microseconds=1))
    old.save(update_fields=["expires"])
    doors.tell()
    audit.record(
        actor=actor,
        action=Action.CLIENT_KEY_ROTATED,
        target=prefix,
        client=client.name,
        detail={"ends": old.expires.isoformat(), "expires": issued.expires.isoformat(), "successor": issued.prefix},
    )
    return issued


@transaction.atomic
def revoke_key(*, actor: str, prefix: str) -> bool:
    """End a key now. False: it was revoked already."""
    row = ApiKey.objects.select_for_update(of=("self",)).select_related("client").filter(prefix=prefix).first()
    if row is None:
        raise ClientNotFoundError("key_unknown", "there is no key by that prefix")
    if row.revoked_at is not None:
        return False
    row.revoked_at = timezone.now()
    row.save(update_fields=["revoked_at"])
    doors.tell()
    audit.record(actor=actor, action=Action.CLIENT_KEY_REVOKED, target=prefix, client=row.client.name)
    return True


def _owner(prefix: str) -> str:
    name = ApiKey.objects.filter(prefix=prefix).values_list("client__name", flat=True).first()
    if name is None:
        raise ClientNotFoundError("key_unknown", "there is no key by that prefix")
    return name


def _insert(client: Client, *, life: timedelta, scope: rules.Scope, replaces: ApiKey | None = None) -> IssuedKey:
    if client.state != Client.State.ACTIVE:
        raise ClientRefusedError("client_suspended", "a suspended client gets no key")
    made, expires, only = keys.make(), timezone.now() + life, scope.only
    ApiKey.objects.create(
        client=client,
        prefix=made.prefix,
        sha256=made.sha256,
        expires=expires,
        replaces=replaces,
        tasks=_column(only.tasks),
        purposes=_column(only.purposes),
        lane=only.lane or "",
        phi=only.phi,
        served_models=_column(only.models),
        features=_column(only.features),
        tools=_column(only.tools),
        networks=list(scope.bounds.networks),
        certificate=scope.bounds.certificate,
    )
    return IssuedKey(client=client.name, prefix=made.prefix, expires=expires, plaintext=made.plaintext)


def _column(named: frozenset[str] | None) -> list[str] | None:
    return None if named is None else sorted(map(str, named))


def _facts(scope: rules.Scope) -> dict[str, audit.Json]:
    """For the record: only what it narrows."""
    only = scope.only
    facts: dict[str, audit.Json] = {
        "tasks": _column(only.tasks),
        "purposes": _column(only.purposes),
        "lane": only.lane.value if only.lane is not None else None,
        "phi": None if only.phi else False,
        "models": _column(only.models),
        "features": _column(only.features),
        "tools": _column(only.tools),
        "networks": [str(network) for network in scope.bounds.networks] or None,
        "certificate": scope.bounds.certificate or None,
    }
    return {name: value for name, value in facts.items() if value is not None}
