"""The sealed account: one person of no name, out of use except between an opening and its end.

Each unsealing gives it a new password and a new generator, shown once; sealing makes both worthless. Between the two it
is a person like any other, with both factors, the administrator's duties, and an end that every request looks at.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from appliance.accounts import services as people
from appliance.accounts.models import Person, TotpDevice
from appliance.accounts.permissions import Role
from appliance.accounts.rules import SEALED_ACCOUNT
from appliance.accounts.services.attempts import locked_person
from appliance.audit import services as audit
from appliance.audit.actions import Action

USERNAME = SEALED_ACCOUNT
ROLES = (Role.IT_ADMIN,)


@dataclass(frozen=True)
class Opened:
    """How to get in, for the one who is shown it."""

    username: str
    password: str
    seed: bytes
    until: datetime


@transaction.atomic
def unseal(*, actor: str, until: datetime) -> Opened:
    """Let the account in until then."""
    password = "-".join(secrets.token_hex(3) for _ in range(5))
    person = Person.objects.select_for_update().filter(username=USERNAME).first() or Person(username=USERNAME)
    person.display_name, person.roles = "Break-glass account", sorted(role.value for role in ROLES)
    person.is_active, person.active_until = True, until
    person.failures, person.locked_until = 0, None
    person.set_password(password)
    person.save()
    seed = people.enrol_totp(actor=actor, username=USERNAME, confirmed=True)
    audit.record(actor=actor, action=Action.PERSON_UNSEALED, target=USERNAME, detail={"until": until.isoformat()})
    return Opened(USERNAME, password, seed, until)


@transaction.atomic
def seal(*, actor: str) -> None:
    """Out of use: no password, no generator, no session."""
    person = locked_person(USERNAME)
    person.is_active = False
    person.set_unusable_password()
    person.save(update_fields=["is_active", "password"])
    TotpDevice.objects.filter(user_id=person.pk).delete()
    audit.record(actor=actor, action=Action.PERSON_SEALED, target=USERNAME)
