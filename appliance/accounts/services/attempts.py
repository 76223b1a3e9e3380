"""What every way in shares: the row of the person under a lock, failures in a row, and failures of one network.

Failure counters are written outside of any transaction that a refusal could roll back (SECURITY.md, finding 2).
"""

from __future__ import annotations

from django.db.models import Case, F, Value, When
from django.utils import timezone

from appliance.accounts import rules
from appliance.accounts.errors import PersonError, SignInRefusedError
from appliance.accounts.models import NetworkFailures, Person
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


@unaudited("the door records the sign-in")
def forgive(person: Person) -> None:
    """The second factor was right: failures are counted from nothing again."""
    Person.objects.filter(pk=person.pk).update(failures=0, locked_until=None)


@unaudited("it only reads; the door records the refusal")
def open_person(username: str) -> Person:
    """Somebody who is active and not locked, or SignInRefusedError."""
    person = Person.objects.filter(username=username, is_active=True).first()
    if person is None or rules.locked(until=person.locked_until, now=timezone.now()):
        raise SignInRefusedError
    return person


@unaudited("it only reads; the door records the refusal")
def check_network(*, source: str) -> None:
    """SignInRefusedError while too many sign-ins failed from this network: one password tried on many names."""
    network = rules.network_of(source)
    row = NetworkFailures.objects.filter(network=network).first() if network else None
    if row is not None and rules.network_held(failures=row.failures, since=row.since, now=timezone.now()):
        raise SignInRefusedError


@unaudited("the door records the refusal; the hold itself is recorded here")
def count_network_failure(*, source: str) -> None:
    """One more failure from this network in its window; the one that is too many holds it and is recorded."""
    network, now = rules.network_of(source), timezone.now()
    if not network:
        return
    NetworkFailures.objects.get_or_create(network=network, defaults={"since": now})
    over = When(since__lte=now - rules.NETWORK_WINDOW, then=Value(1))
    # One statement: two failures at once are both counted, and only one of them is the first too many.
    NetworkFailures.objects.filter(network=network).update(
        failures=Case(over, default=F("failures") + 1),
        since=Case(When(since__lte=now - rules.NETWORK_WINDOW, then=Value(now)), default=F("since")),
    )
    count = NetworkFailures.objects.values_list("failures", flat=True).get(network=network)
    if count == rules.NETWORK_FAILURES:
        audit.refuse(actor="unknown", action=Action.NETWORK_HELD, target=network, outcome="held")
