"""The sealed account: one person of no name, out of use except between an opening and its end.

Each unsealing gives it a new password and a new generator, shown once; sealing makes both worthless. Between the two it
is a person like any other, with both factors, the administrator's duties, and an end that every request looks at.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django_otp import devices_for_user

from appliance.accounts import services as people
from appliance.accounts.models import Person
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
    _forget_factors(person)
    seed = people.enrol_totp(actor=actor, username=USERNAME, confirmed=True)
    audit.record(actor=actor, action=Action.PERSON_UNSEALED, target=USERNAME, detail={"until": until.isoformat()})
    return Opened(USERNAME, password, seed, until)


@transaction.atomic
def seal(*, actor: str) -> None:
    """Out of use: no password, no factor of any kind, no session."""
    people.deactivate(actor=actor, username=USERNAME)
    person = locked_person(USERNAME)
    person.set_unusable_password()
    person.save(update_fields=["password"])
    _forget_factors(person)
    audit.record(actor=actor, action=Action.PERSON_SEALED, target=USERNAME)


def _forget_factors(person: Person) -> None:
    # Whatever was enrolled while it was open, too: the next opening is other people's.
    for device in devices_for_user(person, confirmed=None):
        device.delete()
