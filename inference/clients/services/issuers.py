"""Register who may vouch for users, change their keys, suspend them."""

from __future__ import annotations

from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.actions import Action
from inference.clients import assertions, rules
from inference.clients.errors import ClientNotFoundError, ClientRefusedError
from inference.clients.models import AssertionIssuer, AssertionKey
from inference.clients.services import doors


@transaction.atomic
def register_issuer(
    *, actor: str, name: str, iss: str, client: str = "", life: timedelta = rules.LONGEST_LIFE
) -> AssertionIssuer:
    """An identity provider of the house, or an app that signs for its own users. Its word counts once it has a key."""
    rules.check_name(name)
    rules.check_issuer(iss)
    rules.check_life(life)
    owner = doors.locked(client) if client else None
    try:
        with transaction.atomic():
            row = AssertionIssuer.objects.create(name=name, iss=iss, client=owner, expires=timezone.now() + life)
    except IntegrityError as error:
        raise ClientRefusedError("issuer_exists", "there is already an issuer by that name or iss") from error
    doors.tell()
    audit.record(
        actor=actor,
        action=Action.ISSUER_REGISTERED,
        target=name,
        client=client,
        detail={"expires": row.expires.isoformat(), "iss": iss},
    )
    return row


@transaction.atomic
def add_issuer_key(*, actor: str, issuer: str, kid: str, pem: str) -> assertions.PublicKey:
    """One more public key of an issuer. Earlier ones go on until they are retired, so that it can change keys."""
    assertions.check_kid(kid)
    key, row = assertions.load(pem), _locked(issuer)
    try:
        with transaction.atomic():
            AssertionKey.objects.create(issuer=row, kid=kid, pem=pem, sha256=key.sha256)
    except IntegrityError as error:
        raise ClientRefusedError("issuer_key_exists", "that kid or that key is registered already") from error
    doors.tell()
    audit.record(
        actor=actor,
        action=Action.ISSUER_KEY_ADDED,
        target=issuer,
        client=row.client.name if row.client is not None else "",
        detail={"algorithm": key.algorithm, "kid": kid, "sha256": key.sha256},
    )
    return key


@transaction.atomic
def retire_issuer_key(*, actor: str, issuer: str, kid: str) -> bool:
    """What that key signed counts no more, running work included. False: it was retired already."""
    row = _locked(issuer)
    key = row.keys.filter(kid=kid).first()
    if key is None:
        raise ClientNotFoundError("issuer_key_unknown", "that issuer has no key by that kid")
    if key.retired_at is not None:
        return False
    key.retired_at = timezone.now()
    key.save(update_fields=["retired_at"])
    doors.tell()
    audit.record(actor=actor, action=Action.ISSUER_KEY_RETIRED, target=issuer, detail={"kid": kid})
    return True


@transaction.atomic
def set_issuer_state(*, actor: str, issuer: str, active: bool) -> None:
    """Suspend an issuer, or let its word count again. Its keys stay as they are."""
    row = _locked(issuer)
    row.state = AssertionIssuer.State.ACTIVE if active else AssertionIssuer.State.SUSPENDED
    row.save(update_fields=["state"])
    doors.tell()
    audit.record(actor=actor, action=Action.ISSUER_UPDATED, target=issuer, detail={"state": str(row.state)})


def _locked(name: str) -> AssertionIssuer:
    row = AssertionIssuer.objects.select_for_update(of=("self",)).select_related("client").filter(name=name).first()
    if row is None:
        raise ClientNotFoundError("issuer_unknown", "there is no issuer by that name")
    return row
