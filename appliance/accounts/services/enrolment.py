"""The first second factor of somebody who has none: whom the directory brought, or who was made without one.

An administrator gives a code by hand. With their own first factor it lets the person see a seed once, and nothing else;
whoever gave it knows neither the password nor the seed. It is never a way to replace a factor.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from django.db import transaction
from django.utils import timezone
from django_otp import devices_for_user

from appliance.accounts import rules
from appliance.accounts import services as people
from appliance.accounts.errors import EnrolmentError
from appliance.accounts.models import Enrolment, Person
from appliance.accounts.services.attempts import count_failure, locked_person
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited

_CODE_BYTES = 15


@transaction.atomic
def give(*, actor: str, username: str) -> str:
    """A new code for this person, shown once; any earlier one is void."""
    person = locked_person(username)
    rules.check_can_give_enrolment(
        actor=actor, username=username, is_active=person.is_active, has_factor=_has_factor(person)
    )
    code = base64.b32encode(secrets.token_bytes(_CODE_BYTES)).decode().lower()
    Enrolment.objects.update_or_create(
        person=person, defaults={"digest": _digest(code), "expires_at": timezone.now() + rules.ENROLMENT_FOR}
    )
    audit.record(actor=actor, action=Action.PERSON_ENROLMENT_GIVEN, target=username)
    return rules.in_fours(code)


@unaudited("it only hashes")
def ticket(*, code: str) -> str:
    """What a session keeps of a code that was typed in: enough to go on, and not the code."""
    return _digest(rules.out_of_fours(code))


@unaudited("the enrolment itself is recorded; a wrong code is recorded here and counts as a failed sign-in")
def begin(*, actor: str, ticket: str) -> bytes:
    """The seed of a new generator, or EnrolmentError. It counts once `finish` saw a code of it."""
    person = _holder(actor, ticket)
    return people.enrol_totp(actor=actor, username=person.username)


@unaudited("the enrolment is recorded by confirm_totp; a wrong code is recorded here")
def finish(*, actor: str, ticket: str, shown: str) -> bool:
    """Make the generator count, when it shows the right code; the code given by hand is gone with it."""
    person = _holder(actor, ticket)
    with transaction.atomic():
        # One of two at once finds the row; the other finds that it is used.
        given = Enrolment.objects.select_for_update().filter(person=person).first()
        if given is None or not people.confirm_totp(actor=actor, username=person.username, code=shown):
            return False
        given.delete()
    return True


def _holder(username: str, ticket: str) -> Person:
    person = Person.objects.filter(username=username, is_active=True).first()
    if person is None or rules.locked(until=person.locked_until, now=timezone.now()):
        raise EnrolmentError(_REFUSED)
    given = Enrolment.objects.filter(person=person, expires_at__gt=timezone.now()).first()
    right = given is not None and hmac.compare_digest(given.digest, ticket)
    if not right or _has_factor(person):
        count_failure(person)
        audit.refuse(
            actor=username, action=Action.PERSON_ENROLMENT_REFUSED, target=username, outcome=EnrolmentError.code
        )
        raise EnrolmentError(_REFUSED)
    return person


_REFUSED = "That code is not right, or it is used up. Ask an administrator for a new one."


def _has_factor(person: Person) -> bool:
    # Of whatever kind: a way around taking a factor away by two people would be one of these.
    return any(True for _ in devices_for_user(person))


def _digest(code: str) -> str:
    # 120 random bits: the hash need not be slow.
    return hashlib.sha256(b"isoward-enrolment\n" + code.encode()).hexdigest()
