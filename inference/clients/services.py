"""Create clients, change what they may do, issue and revoke keys.

Each act is a row here and a row in the log, in one transaction, and tells the doors by NOTIFY when it commits. A key's
text leaves `issue_key` once, in its return value; nothing keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.actions import Action
from inference.clients import keys, rules, selectors
from inference.clients.errors import ClientNotFoundError, ClientRefusedError
from inference.clients.models import ApiKey, Client


@dataclass(frozen=True)
class IssuedKey:
    """A new key, to be shown once."""

    client: str
    prefix: str
    expires: datetime
    plaintext: str = field(repr=False)


@transaction.atomic
def create_client(
    *,
    actor: str,
    name: str,
    title: str,
    owner: str,
    tasks: Sequence[str],
    purposes: Sequence[str],
    lane: str,
    phi: bool,
) -> selectors.ClientView:
    """Register a clinical application with what it may ask for. It cannot ask until it has a key."""
    rules.check_name(name)
    rules.check_grants(tasks=tasks, purposes=purposes, lane=lane)
    try:
        with transaction.atomic():
            Client.objects.create(
                name=name,
                title=title,
                owner=owner,
                tasks=sorted(set(tasks)),
                purposes=sorted(set(purposes)),
                lane=lane,
                phi=phi,
            )
    except IntegrityError as error:
        raise ClientRefusedError("client_exists", "there is already a client by that name") from error
    _tell_the_doors()
    audit.record(
        actor=actor,
        action=Action.CLIENT_CREATED,
        target=name,
        client=name,
        detail={"lane": lane, "phi": phi, "purposes": sorted(set(purposes)), "tasks": sorted(set(tasks))},
    )
    return selectors.client(name)


@transaction.atomic
def set_grants(
    *, actor: str, client: str, tasks: Sequence[str], purposes: Sequence[str], lane: str, phi: bool
) -> selectors.ClientView:
    """Replace what a client may ask for. Takes effect at the doors within seconds, running requests included."""
    rules.check_grants(tasks=tasks, purposes=purposes, lane=lane)
    row = _locked(client)
    row.tasks, row.purposes, row.lane, row.phi = sorted(set(tasks)), sorted(set(purposes)), lane, phi
    row.save(update_fields=["tasks", "purposes", "lane", "phi"])
    _tell_the_doors()
    audit.record(
        actor=actor,
        action=Action.CLIENT_UPDATED,
        target=client,
        client=client,
        detail={"lane": lane, "phi": phi, "purposes": row.purposes, "tasks": row.tasks},
    )
    return selectors.client(client)


@transaction.atomic
def set_state(*, actor: str, client: str, active: bool) -> selectors.ClientView:
    """Suspend a client, or let it in again. Its keys stay as they are."""
    row = _locked(client)
    row.state = Client.State.ACTIVE if active else Client.State.SUSPENDED
    row.save(update_fields=["state"])
    _tell_the_doors()
    audit.record(
        actor=actor, action=Action.CLIENT_UPDATED, target=client, client=client, detail={"state": str(row.state)}
    )
    return selectors.client(client)


@transaction.atomic
def issue_key(*, actor: str, client: str, life: timedelta = timedelta(days=365)) -> IssuedKey:
    """A new key for a client. Earlier keys go on until they are revoked or expire, so keys can overlap."""
    rules.check_life(life)
    row = _locked(client)
    if row.state != Client.State.ACTIVE:
        raise ClientRefusedError("client_suspended", "a suspended client gets no key")
    made, expires = keys.make(), timezone.now() + life
    ApiKey.objects.create(client=row, prefix=made.prefix, sha256=made.sha256, expires=expires)
    _tell_the_doors()
    audit.record(
        actor=actor,
        action=Action.CLIENT_KEY_ISSUED,
        target=made.prefix,
        client=client,
        detail={"expires": expires.isoformat()},
    )
    return IssuedKey(client=client, prefix=made.prefix, expires=expires, plaintext=made.plaintext)


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
    _tell_the_doors()
    audit.record(actor=actor, action=Action.CLIENT_KEY_REVOKED, target=prefix, client=row.client.name)
    return True


def _locked(name: str) -> Client:
    row = Client.objects.select_for_update().filter(name=name).first()
    if row is None:
        raise ClientNotFoundError("client_unknown", "there is no client by that name")
    return row


def _tell_the_doors() -> None:
    """Delivered by PostgreSQL at commit, and not at all after a rollback."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [selectors.CHANGED])
