"""People whose name and password the hospital's directory keeps: let in by it, and known here by its own id for them.

Decides: that what the directory says today is what holds today: roles are read at each sign-in, and gone when it says
no more. Leaves to others: the second factor, which is ours whatever the directory says.

- A refusal after a right password takes the person's roles away, which also ends the sessions they still have.
- Each such refusal is recorded with its reason; the person reads the one text that every refusal has.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.accounts import directory, rules
from appliance.accounts.errors import DirectoryUnavailableError, PersonError, SignInRefusedError
from appliance.accounts.models import Person
from appliance.accounts.permissions import may_hold_phi
from appliance.accounts.services.attempts import count_failure
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from provisioning.site_config import SiteError
from provisioning.site_directory import Directory

DIRECTORY = "system:directory"
UNKNOWN = "unknown"


@unaudited("it only looks at who keeps this name")
def keeps(person: Person | None) -> bool:
    """Whether this name's password is the directory's to judge: nobody of ours has it, and there is a directory."""
    if person is not None:
        return bool(person.directory_id)
    return settings.SITE.directory is not None


@unaudited("what it changes is recorded by the functions that change it; the door records the sign-in and the refusal")
def check_password(*, actor: str, person: Person | None, password: str) -> Person:
    """The person as the directory knows them now, or SignInRefusedError; the same work for every reason."""
    make_password(password)  # what a local name costs
    site: Directory | None = settings.SITE.directory
    if site is None:
        raise SignInRefusedError  # a person of a directory that this site no longer names
    try:
        rules.check_username(actor)
    except PersonError:
        raise SignInRefusedError from None
    if person is not None and (not person.is_active or rules.locked(until=person.locked_until, now=timezone.now())):
        raise SignInRefusedError
    entry = _ask(site, actor if person else UNKNOWN, actor, password)
    if entry is None:
        if person is not None:
            count_failure(person)
        raise SignInRefusedError
    roles = rules.roles_of_groups(entry.groups, {r: map(directory.spelled, g) for r, g in site.roles.items()})
    reason = rules.directory_refusal(
        disabled=entry.disabled, roles=roles, known_id=person.directory_id if person else entry.id, id_now=entry.id
    )
    if not reason:
        admitted = _admit(entry, username=actor, roles=roles)
        if admitted is not None:
            return admitted
        reason = rules.DIRECTORY_IDENTITY
    _turn_away(username=actor, reason=reason, roles=roles)
    raise SignInRefusedError


def _ask(site: Directory, who: str, username: str, password: str) -> directory.Entry | None:
    try:
        secret = settings.SITE.secret("directory-bind").decode().rstrip("\r\n")
        return directory.ask(site, secret=secret, username=username, password=password)
    except (DirectoryUnavailableError, SiteError, ValueError) as error:
        code = DirectoryUnavailableError.code
        audit.refuse(actor=who, action=Action.PERSON_SIGN_IN_REFUSED, target="directory", outcome=code)
        raise SignInRefusedError from error


@transaction.atomic
def _admit(entry: directory.Entry, *, username: str, roles: list[str]) -> Person | None:
    """The person's row as the directory has it today; None when the name is somebody else's by now."""
    person = Person.objects.select_for_update().filter(username=username).first()
    if person is None:
        return _create(entry, username=username, roles=roles)
    if person.directory_id != entry.id:
        return None
    _set_roles(person, roles)
    return person


def _create(entry: directory.Entry, *, username: str, roles: list[str]) -> Person | None:
    person = Person(username=username, display_name=entry.display_name or username, roles=roles, directory_id=entry.id)
    person.set_unusable_password()
    try:
        with transaction.atomic():
            person.save()
    except IntegrityError:
        # Known here under an older name, or made by a sign-in at the same moment.
        return Person.objects.filter(username=username, directory_id=entry.id).first()
    audit.record(
        actor=DIRECTORY, action=Action.PERSON_CREATED, target=username, detail={"roles": roles, "from": "directory"}
    )
    return person


@transaction.atomic
def _turn_away(*, username: str, reason: str, roles: list[str]) -> None:
    """Take away what an earlier sign-in was given, and say why nobody came in."""
    person = Person.objects.select_for_update().filter(username=username).exclude(directory_id="").first()
    if person is not None:
        _set_roles(person, [])
    audit.record(
        actor=username,
        action=Action.PERSON_SIGN_IN_REFUSED,
        kind="refusal",
        target="directory",
        outcome=reason,
        detail={"roles": roles},
    )


def _set_roles(person: Person, roles: list[str]) -> None:
    if person.roles == roles:
        return
    before, person.roles = list(person.roles), roles
    person.phi_view = person.phi_view and may_hold_phi(roles)
    person.save(update_fields=["roles", "phi_view"])
    audit.record(
        actor=DIRECTORY,
        action=Action.PERSON_ROLES_SET,
        target=person.username,
        detail={"before": before, "after": roles},
    )
