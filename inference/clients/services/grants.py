"""Register clients, change what they may ask for, suspend them."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import IntegrityError, transaction

from appliance.audit import services as audit
from appliance.audit.actions import Action
from inference.clients import rules, selectors
from inference.clients.errors import ClientRefusedError
from inference.clients.models import Client
from inference.clients.services import doors

_FIELDS = ("tasks", "purposes", "lane", "phi", "features", "tools", "assertion_required")


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
    features: Sequence[str] = (),
    tools: Sequence[str] = (),
    assertion_required: bool = False,
) -> selectors.ClientView:
    """Register a clinical application with what it may ask for. It cannot ask until it has a key."""
    rules.check_name(name)
    row = Client(name=name, title=title, owner=owner)
    _grant(row, tasks, purposes, lane, features, tools, phi=phi, assertion_required=assertion_required)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        raise ClientRefusedError("client_exists", "there is already a client by that name") from error
    doors.tell()
    audit.record(actor=actor, action=Action.CLIENT_CREATED, target=name, client=name, detail=_granted(row))
    return selectors.client(name)


@transaction.atomic
def set_grants(
    *,
    actor: str,
    client: str,
    tasks: Sequence[str],
    purposes: Sequence[str],
    lane: str,
    phi: bool,
    features: Sequence[str],
    tools: Sequence[str],
    assertion_required: bool,
) -> selectors.ClientView:
    """Replace what a client may ask for. Takes effect at the doors within seconds, running requests included."""
    row = doors.locked(client)
    before = _granted(row)
    _grant(row, tasks, purposes, lane, features, tools, phi=phi, assertion_required=assertion_required)
    row.save(update_fields=_FIELDS)
    doors.tell()
    audit.record(
        actor=actor,
        action=Action.CLIENT_UPDATED,
        target=client,
        client=client,
        detail={**_granted(row), "before": before},
    )
    return selectors.client(client)


@transaction.atomic
def set_state(*, actor: str, client: str, active: bool) -> selectors.ClientView:
    """Suspend a client, or let it in again. Its keys stay as they are."""
    row = doors.locked(client)
    row.state = Client.State.ACTIVE if active else Client.State.SUSPENDED
    row.save(update_fields=["state"])
    doors.tell()
    audit.record(
        actor=actor, action=Action.CLIENT_UPDATED, target=client, client=client, detail={"state": str(row.state)}
    )
    return selectors.client(client)


def _grant(
    row: Client,
    tasks: Sequence[str],
    purposes: Sequence[str],
    lane: str,
    features: Sequence[str],
    tools: Sequence[str],
    *,
    phi: bool,
    assertion_required: bool,
) -> None:
    rules.check_grants(tasks=tasks, purposes=purposes, lane=lane, features=features, tools=tools)
    row.tasks, row.purposes, row.lane, row.phi = sorted(set(tasks)), sorted(set(purposes)), lane, phi
    row.features, row.tools = sorted(set(features)), sorted(set(tools))
    row.assertion_required = assertion_required


def _granted(row: Client) -> dict[str, audit.Json]:
    return {name: getattr(row, name) for name in _FIELDS}
