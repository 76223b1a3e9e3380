"""What every way in shares: the row of the person under a lock, and failures in a row.

Failure counters are written outside of any transaction that a refusal could roll back (SECURITY.md, finding 2).
"""

from __future__ import annotations

from django.db.models import F
from django.utils import timezone

from appliance.accounts import rules
from appliance.accounts.errors import PersonError
from appliance.accounts.models import Person
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited


@unaudited("it only reads, under the row's lock")
def locked_person(username: str) -> Person:
    """The person's row, locked until the transaction ends; PersonError when there is none."""
    person = Person.objects.select_for_update().filter(username=username).first()
    if person is None:
        raise PersonError(f"There is nobody called {username}.")
    return person


@unaudited("the door records the refusal; the lock itself is recorded here")
def count_failure(person: Person) -> None:
    """One more failure in a row; the one that is too many locks the account and is recorded."""
    Person.objects.filter(pk=person.pk).update(failures=F("failures") + 1)
    person.refresh_from_db(fields=["failures"])
    until = rules.lock_after(person.failures, timezone.now())
    if until is not None:
        Person.objects.filter(pk=person.pk).update(locked_until=until, failures=0)
        audit.refuse(actor=person.username, action=Action.PERSON_LOCKED, target=person.username, outcome="locked")
