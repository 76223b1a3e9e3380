"""One-time codes (RFC 6238): enrolling a generator, checking a code, and following a clock that drifts.

A step counts once, whoever posts it and however often; the clock of the generator is learnt from codes that counted.
"""

from __future__ import annotations

import hashlib
import secrets
import time

from django.db import transaction

from appliance.accounts import rules
from appliance.accounts.errors import FactorError, SignInRefusedError
from appliance.accounts.models import TotpDevice
from appliance.accounts.services import attempts
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from appliance.keyring import services as keyring

_SEED_BYTES = 20


@transaction.atomic
def enrol_totp(*, actor: str, username: str, seed: bytes | None = None, confirmed: bool = False) -> bytes:
    """Give a person a new code generator and return its seed (20 bytes); it counts after `confirm_totp`."""
    person = attempts.locked_person(username)
    seed = seed or secrets.token_bytes(_SEED_BYTES)
    TotpDevice.objects.filter(user_id=person.pk, **({} if confirmed else {"confirmed": False})).delete()
    device = TotpDevice.objects.create(user_id=person.pk, name="one-time code", confirmed=confirmed, sealed_seed=b"")
    device.sealed_seed = keyring.seal(seed, aad=_seed_aad(device))
    device.save(update_fields=["sealed_seed"])
    audit.record(
        actor=actor, action=Action.PERSON_TOTP_ENROLLED, target=username, outcome="ok" if confirmed else "waiting"
    )
    return seed


@unaudited("the enrolment it belongs to is recorded when it begins and when it is confirmed")
def waiting_seed(*, username: str) -> bytes:
    """The seed of the generator that is not confirmed yet, to be shown again beside a refused code; else FactorError."""
    device = TotpDevice.objects.filter(user__username=username, confirmed=False).first()
    if device is None:
        raise FactorError("No generator is waiting to be confirmed. Begin again.")
    return keyring.open_(bytes(device.sealed_seed), aad=_seed_aad(device))


@transaction.atomic
def confirm_totp(*, actor: str, username: str, code: str) -> TotpDevice | None:
    """Make the new generator count, when the person shows a code of it; the old one goes. None when the code is wrong."""
    person = attempts.locked_person(username)
    device: TotpDevice | None = (
        TotpDevice.objects.select_for_update().filter(user_id=person.pk, confirmed=False).first()
    )
    if device is None or not _use_code(device, code):
        return None
    TotpDevice.objects.filter(user_id=person.pk, confirmed=True).delete()
    device.confirmed = True
    device.save(update_fields=["confirmed"])
    audit.record(actor=actor, action=Action.PERSON_TOTP_ENROLLED, target=username)
    return device


@unaudited("the door records the sign-in and the refusal; this only compares")
def check_code(*, actor: str, code: str) -> TotpDevice:
    """The person's device, its step used up by this code, or SignInRefusedError."""
    person = attempts.open_person(actor)
    device: TotpDevice | None = TotpDevice.objects.filter(user_id=person.pk, confirmed=True).first()
    if device is None:
        raise SignInRefusedError
    if not _use_code(device, code):
        attempts.count_failure(person)
        raise SignInRefusedError
    attempts.forgive(person)
    return device


@unaudited("a refusal is counted and recorded by the door; what succeeds is recorded in `_resynchronised`")
def resynchronise(*, actor: str, codes: tuple[str, str]) -> TotpDevice:
    """Two codes in a row find a clock that has run away (RFC 6238, section 6); both are used up."""
    person = attempts.open_person(actor)
    device: TotpDevice | None = TotpDevice.objects.filter(user_id=person.pk, confirmed=True).first()
    if device is None:
        raise SignInRefusedError
    now = time.time()
    step = rules.consecutive_step(seed=_seed(device), codes=codes, now=now, last_step=device.last_step)
    if step is None or not _resynchronised(actor, device, step, drift=step - rules.step_at(now)):
        attempts.count_failure(person)
        raise SignInRefusedError
    attempts.forgive(person)
    return device


@transaction.atomic
def _resynchronised(actor: str, device: TotpDevice, step: int, *, drift: int) -> bool:
    # Compare and set, as for one code: of two posts of one pair, one finds the step already used.
    if not TotpDevice.objects.filter(pk=device.pk, last_step__lt=step).update(last_step=step, drift=drift):
        return False
    detail = {"from_steps": device.drift, "to_steps": drift}
    audit.record(actor=actor, action=Action.PERSON_TOTP_RESYNCHRONISED, target=actor, detail=detail)
    return True


def _use_code(device: TotpDevice, code: str) -> bool:
    now = time.time()
    step = rules.matching_step(seed=_seed(device), code=code, now=now, last_step=device.last_step, drift=device.drift)
    if step is None:
        return False
    drift = rules.learnt_drift(known=device.drift, shown=step - rules.step_at(now))
    # Compare and set: of two posts of one code, one finds the step already used.
    fresh = TotpDevice.objects.filter(pk=device.pk, last_step__lt=step)
    return bool(fresh.update(last_step=step, drift=drift))


def _seed(device: TotpDevice) -> bytes:
    return keyring.open_(bytes(device.sealed_seed), aad=_seed_aad(device))


def _seed_aad(device: TotpDevice) -> bytes:
    return b"totp:" + hashlib.sha256(f"{device.pk}:{device.user_id}".encode()).digest()
