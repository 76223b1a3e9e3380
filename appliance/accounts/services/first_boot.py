"""The first people of a machine: two at once, by somebody with root on it, once.

- One person with root makes a secret that lasts an hour and ten wrong tries; here only its hash is kept.
- Whoever enters it begins a sitting: two new seeds, and the end of any sitting before. Only the last sitting can finish.
- Both people, their passwords, their generators and the end of the first boot are one transaction, under the row's lock:
  there are two people or there is nobody, and of two who finish at once one does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from appliance.accounts import rules, selectors
from appliance.accounts import services as people
from appliance.accounts.errors import (
    AccountError,
    FirstBootError,
    FirstBootOverError,
    FirstBootSecretError,
    SignInRefusedError,
)
from appliance.accounts.models import FirstBoot
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from appliance.keyring import services as keyring
from appliance.keyring.errors import SealBrokenError

FIRST_BOOT = "system:first-boot"
_SECRET_BYTES = 20
_SEED_BYTES = 20


@dataclass(frozen=True)
class Newcomer:
    """One of the first two, as they filled in the form; their duty comes from their place."""

    username: str
    display_name: str
    password: str
    code: str


@transaction.atomic
def make_secret(*, actor: str) -> str:
    """A new set-up secret, the only one that counts from now on; FirstBootOverError on a machine that has people."""
    if not selectors.is_first_boot():
        raise FirstBootOverError
    secret = base64.b32encode(secrets.token_bytes(_SECRET_BYTES)).decode().lower()
    FirstBoot.objects.update_or_create(
        number=1,
        defaults={
            "secret_digest": _digest(secret),
            "expires_at": timezone.now() + rules.FIRST_BOOT_FOR,
            "tries": 0,
            "sitting_digest": "",
            "sealed_seeds": b"",
        },
    )
    audit.record(actor=actor, action=Action.FIRST_BOOT_OPENED, target="first-boot")
    return rules.in_fours(secret)


@unaudited("a wrong secret is recorded by `_refuse`; what a sitting leads to is recorded when it finishes")
def begin(*, actor: str, secret: str) -> str:
    """Enter the secret: the name of a new sitting, or FirstBootSecretError. A wrong one counts, whatever happens next."""
    if not selectors.is_first_boot():
        raise FirstBootOverError
    row = FirstBoot.objects.filter(number=1).first()
    given = _digest(rules.out_of_fours(secret))
    if row is None or not _is_open(row) or not hmac.compare_digest(row.secret_digest, given):
        FirstBoot.objects.filter(number=1, done_at=None).update(tries=F("tries") + 1)
        _refuse(actor, FirstBootSecretError.code)
        raise FirstBootSecretError
    sitting = secrets.token_urlsafe(24)
    seeds = b"".join(secrets.token_bytes(_SEED_BYTES) for _ in rules.FIRST_DUTIES)
    begun = FirstBoot.objects.filter(number=1, secret_digest=given, done_at=None).update(
        sitting_digest=_digest(sitting), sealed_seeds=keyring.seal(seeds, aad=_aad(sitting))
    )
    if not begun:
        raise FirstBootSecretError
    return sitting


@unaudited("it only reads, for the page of the sitting")
def seeds(*, sitting: str) -> tuple[bytes, ...]:
    """The two seeds of this sitting; FirstBootSecretError when it is not the one that may finish."""
    if not selectors.is_first_boot():
        raise FirstBootOverError
    return _seeds(FirstBoot.objects.filter(number=1).first(), sitting)


@unaudited("what is made is recorded by `_make`; a refusal is recorded here, after it was rolled back")
def finish(*, actor: str, sitting: str, newcomers: Sequence[Newcomer]) -> None:
    """Make both people, or nobody."""
    try:
        _make(sitting, newcomers)
    except SignInRefusedError as error:
        _refuse(actor, "code_refused")
        raise FirstBootError(
            "One of the two codes is not the one its generator shows now. Wait for the next and enter both again."
        ) from error
    except AccountError as error:
        _refuse(actor, error.code)
        raise


@transaction.atomic
def _make(sitting: str, newcomers: Sequence[Newcomer]) -> None:
    # Lock first: two who finish at once must not both find a machine without people.
    row = FirstBoot.objects.select_for_update().filter(number=1).first()
    if not selectors.is_first_boot():
        raise FirstBootOverError
    made = _seeds(row, sitting)
    rules.check_first_people([one.username for one in newcomers], [one.password for one in newcomers])
    for one, duties, seed in zip(newcomers, rules.FIRST_DUTIES, made, strict=True):
        people.create_person(
            actor=FIRST_BOOT,
            username=one.username,
            display_name=one.display_name,
            password=one.password,
            roles=[role.value for role in duties],
        )
        people.enrol_totp(actor=FIRST_BOOT, username=one.username, seed=seed, confirmed=True)
        people.check_code(actor=one.username, code=one.code)
    FirstBoot.objects.filter(number=1).update(
        done_at=timezone.now(), secret_digest="", sitting_digest="", sealed_seeds=b""
    )
    audit.record(
        actor=FIRST_BOOT,
        action=Action.FIRST_BOOT_DONE,
        target="first-boot",
        detail={"people": [one.username for one in newcomers]},
    )


def _seeds(row: FirstBoot | None, sitting: str) -> tuple[bytes, ...]:
    if row is None or not _is_open(row) or not hmac.compare_digest(row.sitting_digest, _digest(sitting)):
        raise FirstBootSecretError
    try:
        opened = keyring.open_(bytes(row.sealed_seeds), aad=_aad(sitting))
    except SealBrokenError as error:
        raise FirstBootSecretError from error
    return tuple(opened[at : at + _SEED_BYTES] for at in range(0, len(opened), _SEED_BYTES))


def _is_open(row: FirstBoot) -> bool:
    return row.done_at is None and rules.first_boot_open(
        secret=row.secret_digest, expires_at=row.expires_at, tries=row.tries, now=timezone.now()
    )


def _refuse(actor: str, outcome: str) -> None:
    audit.refuse(actor=actor, action=Action.FIRST_BOOT_REFUSED, target="first-boot", outcome=outcome)


def _digest(text: str) -> str:
    # 160 random bits: the hash need not be slow, and nothing can be guessed from it.
    return hashlib.sha256(b"isoward-first-boot\n" + text.encode()).hexdigest()


def _aad(sitting: str) -> bytes:
    return b"first-boot:" + _digest(sitting).encode()
