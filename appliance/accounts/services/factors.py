"""A person's factors together: checking whichever was shown, and taking one away while another stays."""

from __future__ import annotations

from django.db import transaction

from appliance.accounts import rules
from appliance.accounts.errors import FactorError
from appliance.accounts.models import Passkey, RecoverySheet, TotpDevice
from appliance.accounts.permissions import Permission
from appliance.accounts.services import attempts, codes, recovery
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited


@unaudited("the door records the sign-in and the refusal; this only compares")
def check_typed(*, actor: str, code: str) -> TotpDevice | RecoverySheet:
    """What was typed at step two: six digits of the generator, or a recovery code; SignInRefusedError otherwise."""
    if rules.plain_recovery_code(code) is not None:
        return recovery.use(actor=actor, code=code)
    return codes.check_code(actor=actor, code=code)


@transaction.atomic
def remove_generator(*, actor: str) -> None:
    """Take one's own generator away, while a key stays."""
    person = attempts.locked_person(actor)
    generator = TotpDevice.objects.filter(user_id=person.pk, confirmed=True)
    if not generator.exists():
        raise FactorError("There is no generator to take away.")
    left = Passkey.objects.filter(user_id=person.pk).count()
    rules.check_can_remove(left=left, approves=person.may(Permission.CHANGE_APPROVE), is_generator=True)
    generator.delete()
    audit.record(actor=actor, action=Action.PERSON_FACTOR_REMOVED, target=actor, detail={"factor": "totp"})


@transaction.atomic
def remove_key(*, actor: str, key_id: int) -> None:
    """Take one of one's own keys away, while another factor stays."""
    # Locked first: two removals at once must not each count on the other's factor.
    person = attempts.locked_person(actor)
    key = Passkey.objects.filter(user_id=person.pk, pk=key_id).first()
    if key is None:
        raise FactorError("There is no such key among yours.")
    left = Passkey.objects.filter(user_id=person.pk).exclude(pk=key_id).count()
    left += TotpDevice.objects.filter(user_id=person.pk, confirmed=True).count()
    rules.check_can_remove(left=left, approves=person.may(Permission.CHANGE_APPROVE), is_generator=False)
    key.delete()
    audit.record(
        actor=actor, action=Action.PERSON_FACTOR_REMOVED, target=actor, detail={"factor": "key", "name": key.name}
    )
