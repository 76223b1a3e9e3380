"""Security keys and passkeys (WebAuthn Level 2): enrolling one, asking it to sign, and what its answer must be.

The only import of py_webauthn, which checks signatures and structure. What is ours, and why: docs/decisions/0019.

- A challenge belongs to one session and one purpose, lives five minutes, and is taken away by the first answer, right or wrong.
- Origin and RP id come from the site's own file, never from the request.
- The person must have been verified by the key (PIN or finger): a found key alone opens nothing.
- A counter that went back means that there are two of this key: it is refused and recorded.
"""

from __future__ import annotations

import hashlib
import secrets

import webauthn
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from webauthn.helpers import parse_authentication_credential_json, parse_registration_credential_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from appliance.accounts import rules
from appliance.accounts.errors import FactorError, PasskeyRefusedError, SignInRefusedError
from appliance.accounts.models import Challenge, Passkey, Person
from appliance.accounts.services import attempts
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from appliance.keyring import services as keyring
from appliance.keyring.errors import SealBrokenError

ENROL, SIGN_IN, STEP_UP = "enrol", "sign-in", "step-up"

_CHALLENGE_BYTES = 32
_TIMEOUT_MS = 60_000
_TRANSPORTS = {transport.value: transport for transport in AuthenticatorTransport}
# What py_webauthn raises for bytes that are not what they should be, beside its own exceptions.
_MALFORMED = (WebAuthnException, ValueError, TypeError, KeyError, AttributeError, RecursionError)


@unaudited("asking changes nothing that anybody answers for; the enrolment is recorded")
def enrolment_options(*, username: str, session: str) -> str:
    """What the browser hands to `navigator.credentials.create`, as JSON; FactorError where keys cannot be used."""
    person = Person.objects.get(username=username)
    options = webauthn.generate_registration_options(
        rp_id=_rp_id(),
        rp_name=f"Isoward, {settings.SITE.name}",
        user_name=person.username,
        user_display_name=person.display_name,
        user_id=hashlib.sha256(f"isoward:{person.pk}".encode()).digest(),
        challenge=_ask(session, ENROL),
        timeout=_TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=_descriptors(person),
    )
    return webauthn.options_to_json(options)


def enrol(*, actor: str, session: str, name: str, answer: str) -> None:
    """Add the key that gave this answer to the person's factors; PasskeyRefusedError when it does not count."""
    # Outside the transaction below: the challenge is gone, whatever becomes of the answer.
    challenge = _take(session, ENROL)
    try:
        verified = webauthn.verify_registration_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=_rp_id(),
            expected_origin=list(settings.SITE.console.origins),
            require_user_verification=True,
        )
    except _MALFORMED as error:
        raise PasskeyRefusedError(type(error).__name__) from error
    _add(
        actor,
        Passkey(
            name=name.strip()[:64],
            confirmed=True,
            credential_id=verified.credential_id,
            sign_count=verified.sign_count,
            synced=verified.credential_backed_up,
            transports=_transports(answer),
        ),
        public_key=verified.credential_public_key,
    )


@transaction.atomic
def _add(actor: str, key: Passkey, *, public_key: bytes) -> None:
    key.user_id, key.sealed_key = attempts.locked_person(actor).pk, b""
    try:
        with transaction.atomic():
            key.save()
    except IntegrityError as error:
        raise FactorError("This key is already enrolled.") from error
    key.sealed_key = keyring.seal(public_key, aad=_aad(key))
    key.save(update_fields=["sealed_key"])
    audit.record(actor=actor, action=Action.PERSON_PASSKEY_ENROLLED, target=actor, detail=_about(key))


@unaudited("asking changes nothing that anybody answers for; the door records the sign-in")
def question(*, username: str, session: str, purpose: str) -> str:
    """What the browser hands to `navigator.credentials.get`, as JSON; nothing when the person has no key."""
    person = Person.objects.filter(username=username, is_active=True).first()
    allowed = _descriptors(person) if person is not None else []
    if not allowed or not settings.SITE.console.name:
        return ""
    options = webauthn.generate_authentication_options(
        rp_id=_rp_id(),
        challenge=_ask(session, purpose),
        timeout=_TIMEOUT_MS,
        allow_credentials=allowed,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return webauthn.options_to_json(options)


@unaudited("the door records the sign-in and the refusal; a counter that went back is recorded in `_refuse`")
def check(*, actor: str, session: str, purpose: str, answer: str) -> Passkey:
    """The person's key that gave this answer, or SignInRefusedError; a refusal counts as a failure."""
    person = attempts.open_person(actor)
    try:
        key = _check(person, _take(session, purpose), answer)
    except PasskeyRefusedError as refusal:
        _refuse(person, refusal)
        raise SignInRefusedError from refusal
    attempts.forgive(person)
    return key


def _check(person: Person, challenge: bytes, answer: str) -> Passkey:
    try:
        credential = parse_authentication_credential_json(answer)
        key: Passkey | None = Passkey.objects.filter(user_id=person.pk, credential_id=credential.raw_id).first()
        if key is None:
            raise PasskeyRefusedError("unknown_key")
        verified = webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=_rp_id(),
            expected_origin=list(settings.SITE.console.origins),
            credential_public_key=keyring.open_(bytes(key.sealed_key), aad=_aad(key)),
            # The counter is held against ours below, where two answers at once cannot both pass.
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except SealBrokenError as error:
        raise PasskeyRefusedError("seal_broken") from error
    except _MALFORMED as error:
        raise PasskeyRefusedError(type(error).__name__) from error
    if rules.counter_went_back(known=key.sign_count, shown=verified.new_sign_count):
        raise PasskeyRefusedError("counter_went_back")
    # Compare and set: of two answers with one counter, one finds it already used.
    current = Passkey.objects.filter(pk=key.pk, sign_count=key.sign_count)
    if not current.update(sign_count=verified.new_sign_count, last_used_at=timezone.now()):
        raise PasskeyRefusedError("counter_went_back")
    return key


def _refuse(person: Person, refusal: PasskeyRefusedError) -> None:
    attempts.count_failure(person)
    audit.refuse(
        actor=person.username, action=Action.PERSON_PASSKEY_REFUSED, target=person.username, outcome=refusal.reason
    )


def _ask(session: str, purpose: str) -> bytes:
    """A new challenge; it replaces the one this session had for this purpose."""
    if not session:
        raise RuntimeError("a challenge belongs to a session")
    challenge = secrets.token_bytes(_CHALLENGE_BYTES)
    Challenge.objects.update_or_create(
        session=session, purpose=purpose, defaults={"challenge": challenge, "made_at": timezone.now()}
    )
    return challenge


def _take(session: str, purpose: str) -> bytes:
    """The challenge, which nobody else can take now; PasskeyRefusedError when there is none or it is too old."""
    row = Challenge.objects.filter(session=session, purpose=purpose).first()
    # The delete is the real check: of two answers at once, one deletes nothing.
    if row is None or not Challenge.objects.filter(pk=row.pk, challenge=row.challenge).delete()[0]:
        raise PasskeyRefusedError("no_challenge")
    if not row.made_at <= timezone.now() < row.made_at + rules.CHALLENGE_FOR:
        raise PasskeyRefusedError("challenge_expired")
    return bytes(row.challenge)


def _rp_id() -> str:
    name: str = settings.SITE.console.name
    if not name:
        raise FactorError("Security keys need a name for this console, and site.toml has only addresses.")
    return name


def _descriptors(person: Person) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=bytes(key.credential_id), transports=[_TRANSPORTS[name] for name in key.transports]
        )
        for key in Passkey.objects.filter(user_id=person.pk).order_by("pk")
    ]


def _transports(answer: str) -> list[str]:
    """How the key said that it can be reached: a hint for the browser, nothing more."""
    parsed = parse_registration_credential_json(answer)
    return [transport.value for transport in parsed.response.transports or ()]


def _aad(key: Passkey) -> bytes:
    bound = f"{key.pk}:{key.user_id}:".encode() + bytes(key.credential_id)
    return b"passkey:" + hashlib.sha256(bound).digest()


def _about(key: Passkey) -> dict[str, str]:
    return {"name": key.name, "key": hashlib.sha256(bytes(key.credential_id)).hexdigest()[:12]}
