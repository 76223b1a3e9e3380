"""Writing about people: creating them, their factors and keys, and checking who stands at the door.

One file beside this one for each factor, for sessions, and for the act of two that takes somebody's factors away.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.accounts import rules
from appliance.accounts.errors import PersonError, SigningKeyError, SignInRefusedError
from appliance.accounts.models import Person, SigningKey
from appliance.accounts.permissions import Permission, granted, may_hold_phi
from appliance.accounts.services import directory, sessions
from appliance.accounts.services.attempts import count_failure, locked_person
from appliance.accounts.services.codes import check_code, confirm_totp, enrol_totp
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from provisioning import approval

__all__ = [
    "check_code",
    "check_password",
    "confirm_totp",
    "create_person",
    "deactivate",
    "enrol_totp",
    "prove",
    "set_roles",
    "signed_in",
    "signed_out",
    "stepped_up",
]

_SALT_BYTES = 16
_NONCE_BYTES = 12
_SCRYPT = {"length": 32, "n": 2**15, "r": 8, "p": 1}


@transaction.atomic
def create_person(*, actor: str, username: str, display_name: str, password: str, roles: Sequence[str]) -> Person:
    """Add somebody who may sign in once a one-time code is enrolled; approvers also get a signing key."""
    rules.check_username(username)
    rules.check_roles(roles)
    person = Person(username=username, display_name=display_name.strip() or username, roles=sorted(set(roles)))
    try:
        validate_password(password, person)
    except ValidationError as error:
        raise PersonError(" ".join(error.messages)) from error
    person.set_password(password)
    try:
        with transaction.atomic():
            person.save()
    except IntegrityError as error:
        raise PersonError(f"There is already somebody called {username}.") from error
    if Permission.CHANGE_APPROVE in granted(roles):
        _enrol_signing_key(actor, username, password)
    audit.record(actor=actor, action=Action.PERSON_CREATED, target=username, detail={"roles": list(person.roles)})
    return person


@transaction.atomic
def set_roles(*, actor: str, username: str, roles: Sequence[str]) -> None:
    """Replace a person's roles; nobody changes their own."""
    if actor == username:
        raise PersonError("Nobody changes their own roles; ask another administrator.")
    rules.check_roles(roles)
    person = locked_person(username)
    if person.directory_id:
        raise PersonError(f"The roles of {username} come from the directory. Change the groups there.")
    before, person.roles = list(person.roles), sorted(set(roles))
    # The right to see patients' text does not outlive the role it was given for.
    lost = person.phi_view and not may_hold_phi(person.roles)
    person.phi_view = person.phi_view and not lost
    person.save(update_fields=["roles", "phi_view"])
    detail: dict[str, audit.Json] = {"before": before, "after": list(person.roles)}
    if lost:
        detail["phi_view"] = False
    audit.record(actor=actor, action=Action.PERSON_ROLES_SET, target=username, detail=detail)


@transaction.atomic
def set_phi_right(*, actor: str, username: str, allowed: bool) -> None:
    """Give or take the right to be shown patients' text. It opens no page by itself."""
    person = locked_person(username)
    if allowed:
        rules.check_phi_right(actor=actor, username=username, roles=person.roles)
    person.phi_view = allowed
    person.save(update_fields=["phi_view"])
    audit.record(actor=actor, action=Action.PERSON_PHI_RIGHT_SET, target=username, detail={"phi_view": allowed})


@transaction.atomic
def deactivate(*, actor: str, username: str) -> None:
    """End a person's access at their next request; their name and what they approved stay."""
    if actor == username:
        raise PersonError("Nobody deactivates themselves; ask another administrator.")
    person = locked_person(username)
    person.is_active = False
    person.save(update_fields=["is_active"])
    # Whoever is let in again begins a new session; the old ones do not come back to life.
    sessions.forget(person)
    audit.record(actor=actor, action=Action.PERSON_DEACTIVATED, target=username)


@unaudited("the door records the sign-in and the refusal; this only compares")
def check_password(*, actor: str, password: str) -> Person:
    """The person whose name and password these are, or SignInRefusedError; the same work for every reason."""
    person = Person.objects.filter(username=actor).first()
    if directory.keeps(person):
        return directory.check_password(actor=actor, person=person, password=password)
    if person is None:
        make_password(password)  # the same cost as a real check, so that time tells no names
        raise SignInRefusedError
    right = person.check_password(password)
    if not person.is_in_use or rules.locked(until=person.locked_until, now=timezone.now()):
        raise SignInRefusedError
    if not right:
        count_failure(person)
        raise SignInRefusedError
    return person


@transaction.atomic
def signed_in(*, actor: str, source: str, factors: Sequence[str] = ("totp",)) -> None:
    """Record that both factors were right, and which they were; `factors` are those beside the first."""
    Person.objects.filter(username=actor).update(last_login=timezone.now())
    audit.record(
        actor=actor,
        action=Action.PERSON_SIGNED_IN,
        target=actor,
        detail={"source": source, "factors": [directory.first_factor(actor), *factors]},
    )


@transaction.atomic
def signed_out(*, actor: str) -> None:
    """Record the end of a session by its owner."""
    audit.record(actor=actor, action=Action.PERSON_SIGNED_OUT, target=actor)


@transaction.atomic
def stepped_up(*, actor: str, factor: str) -> None:
    """Record that a second factor was shown again before a sensitive act."""
    audit.record(actor=actor, action=Action.PERSON_STEPPED_UP, target=actor, detail={"factor": factor})


@unaudited("the approval that uses the key leaves the record")
def prove(*, actor: str, password: str, code: str) -> tuple[str, Ed25519PrivateKey]:
    """Both factors again, and the person's own signing key opened with them: (key id, private key)."""
    check_password(actor=actor, password=password)
    check_code(actor=actor, code=code)
    key = SigningKey.objects.filter(person=actor, retired_at=None).first()
    if key is None:
        raise SigningKeyError(f"{actor} has no signing key. An administrator can enrol one.")
    return key.key_id, _open_private_key(key, password)


def _enrol_signing_key(actor: str, username: str, password: str) -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_id = approval.key_id(public)
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    sealed = salt + nonce + AESGCM(_derive(password, salt)).encrypt(nonce, private.private_bytes_raw(), key_id.encode())
    mac = approval.roster_mac(settings.SITE.secret("roster-key"), person=username, key_id=key_id, public_key=public)
    SigningKey.objects.create(person=username, key_id=key_id, public_key=public, mac=mac, sealed_private_key=sealed)
    audit.record(actor=actor, action=Action.PERSON_SIGNING_KEY_ENROLLED, target=username, detail={"key_id": key_id})


def _open_private_key(key: SigningKey, password: str) -> Ed25519PrivateKey:
    sealed = bytes(key.sealed_private_key)
    salt, nonce, body = (
        sealed[:_SALT_BYTES],
        sealed[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES],
        sealed[_SALT_BYTES + _NONCE_BYTES :],
    )
    try:
        return Ed25519PrivateKey.from_private_bytes(
            AESGCM(_derive(password, salt)).decrypt(nonce, body, key.key_id.encode())
        )
    except (InvalidTag, ValueError) as error:
        raise SigningKeyError("The signing key does not open with this password; it must be enrolled again.") from error


def _derive(password: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, **_SCRYPT).derive(b"isoward-signing-key\n" + password.encode())
