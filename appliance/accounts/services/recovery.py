"""Recovery codes: ten on a sheet, for the day the generator or the key is lost. Shown once, kept only hashed.

Each counts once. The hash is keyed outside the database and bound to its person, so that a row that was written or
moved by hand opens nothing; the codes have 80 random bits, so that the hash need not be slow.
"""

from __future__ import annotations

import base64
import secrets

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from appliance.accounts import rules
from appliance.accounts.errors import SignInRefusedError
from appliance.accounts.models import Person, RecoveryCode, RecoverySheet
from appliance.accounts.services import attempts
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited

_CODE_BYTES = 10
_SALT = "isoward.recovery-code"


@transaction.atomic
def make(*, actor: str, username: str, count: int = rules.RECOVERY_CODES) -> tuple[str, ...]:
    """A new sheet for a person: the codes, to be shown once. What the old sheet had left is void."""
    person = attempts.locked_person(username)
    codes = tuple(base64.b32encode(secrets.token_bytes(_CODE_BYTES)).decode("ascii").lower() for _ in range(count))
    # The same row for every sheet: a session that a code opened does not end when the sheet is renewed.
    sheet, _ = RecoverySheet.objects.update_or_create(
        user_id=person.pk, defaults={"name": "recovery codes", "confirmed": True, "made_at": timezone.now()}
    )
    RecoveryCode.objects.filter(sheet=sheet).delete()
    RecoveryCode.objects.bulk_create(RecoveryCode(sheet=sheet, digest=_digest(person, code)) for code in codes)
    audit.record(actor=actor, action=Action.PERSON_RECOVERY_CODES_MADE, target=username, detail={"count": len(codes)})
    return tuple(rules.in_fours(code) for code in codes)


@unaudited("a refusal is counted and recorded by the door; what succeeds is recorded in `_use`")
def use(*, actor: str, code: str) -> RecoverySheet:
    """The person's sheet, this code of it used up, or SignInRefusedError."""
    person = attempts.open_person(actor)
    sheet: RecoverySheet | None = RecoverySheet.objects.filter(user_id=person.pk).first()
    plain = rules.plain_recovery_code(code)
    if sheet is None or plain is None or not _use(person, sheet, plain):
        attempts.count_failure(person)
        raise SignInRefusedError
    attempts.forgive(person)
    return sheet


@transaction.atomic
def _use(person: Person, sheet: RecoverySheet, code: str) -> bool:
    # Compare and set: of two posts of one code, one finds it already used.
    unused = RecoveryCode.objects.filter(sheet=sheet, digest=_digest(person, code), used_at=None)
    if unused.update(used_at=timezone.now()) != 1:
        return False
    left = RecoveryCode.objects.filter(sheet=sheet, used_at=None).count()
    audit.record(
        actor=person.username, action=Action.PERSON_RECOVERY_CODE_USED, target=person.username, detail={"left": left}
    )
    return True


def _digest(person: Person, code: str) -> bytes:
    return salted_hmac(_SALT, f"{person.pk}:{code}", algorithm="sha256").digest()
