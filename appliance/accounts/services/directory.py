"""People whose name and password the hospital's directory keeps: let in by it, and known here by its own id for them.

Decides: that what the directory says today is what holds today: roles are read at each sign-in, and gone when it says
no more. Leaves to others: the second factor, which is ours whatever the directory says.

- A refusal after a right password takes the person's roles away, which also ends the sessions they still have.
- Each such refusal is recorded with its reason; the person reads the one text that every refusal has.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.accounts import directory, oidc, rules
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


@dataclass(frozen=True)
class Known:
    """Somebody whom a directory or a provider has proved, and what their groups are worth here."""

    id: str
    username: str
    display_name: str
    roles: list[str]
    disabled: bool = False


@unaudited("it only looks at a name")
def is_provider_s(identity: str) -> bool:
    """Whether an id is the identity provider's and not the directory's."""
    return identity.startswith(oidc.PREFIX)


@unaudited("it only looks at who keeps this name")
def keeps(person: Person | None) -> bool:
    """Whether this name's password is the directory's to judge: nobody of ours has it, and there is a directory."""
    if person is not None:
        return bool(person.directory_id)
    return settings.SITE.directory is not None


@unaudited("it only reads, for the record of a sign-in")
def first_factor(username: str) -> str:
    """What this person's first factor was: a password of ours, the directory's, or the provider's word."""
    identity = Person.objects.filter(username=username).values_list("directory_id", flat=True).first()
    if not identity:
        return "password"
    return "identity provider" if is_provider_s(identity) else "directory password"


@unaudited("what it changes is recorded by the functions that change it; the door records the sign-in and the refusal")
def check_password(*, actor: str, person: Person | None, password: str) -> Person:
    """The person as the directory knows them now, or SignInRefusedError; the same work for every reason."""
    make_password(password)  # what a local name costs
    site: Directory | None = settings.SITE.directory
    if site is None or (person is not None and is_provider_s(person.directory_id)):
        raise SignInRefusedError  # no directory keeps this person's password, or none that this site still names
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
    return let_in(
        actor=DIRECTORY,
        known=Known(
            id=entry.id,
            username=actor,
            display_name=entry.display_name,
            roles=rules.roles_of_groups(entry.groups, {r: map(directory.spelled, g) for r, g in site.roles.items()}),
            disabled=entry.disabled,
        ),
    )


def let_in(*, actor: str, known: Known) -> Person:
    """The person's row as those who keep them have them today, or SignInRefusedError and no role left."""
    person = Person.objects.filter(username=known.username).first()
    reason = rules.directory_refusal(
        disabled=known.disabled,
        roles=known.roles,
        known_id=person.directory_id if person else known.id,
        id_now=known.id,
    )
    if not reason:
        admitted = _admit(known, actor)
        if admitted is not None:
            return admitted
        reason = rules.DIRECTORY_IDENTITY
    _turn_away(known, actor, reason)
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
def _admit(known: Known, actor: str) -> Person | None:
    """None when the name is somebody else's by now."""
    person = Person.objects.select_for_update().filter(username=known.username).first()
    if person is None:
        return _create(known, actor)
    if person.directory_id != known.id:
        return None
    _set_roles(person, known.roles, actor)
    return person


def _create(known: Known, actor: str) -> Person | None:
    person = Person(
        username=known.username,
        display_name=known.display_name or known.username,
        roles=known.roles,
        directory_id=known.id,
    )
    person.set_unusable_password()
    try:
        with transaction.atomic():
            person.save()
    except IntegrityError:
        # Known here under an older name, or made by a sign-in at the same moment.
        return Person.objects.filter(username=known.username, directory_id=known.id).first()
    audit.record(
        actor=actor, action=Action.PERSON_CREATED, target=known.username, detail={"roles": known.roles, "from": actor}
    )
    return person


@transaction.atomic
def _turn_away(known: Known, actor: str, reason: str) -> None:
    """Take away what an earlier sign-in was given, and say why nobody came in."""
    person = Person.objects.select_for_update().filter(username=known.username).exclude(directory_id="").first()
    # Each takes away what it gave: neither keeper speaks for the other's people.
    if person is not None and is_provider_s(person.directory_id) == is_provider_s(known.id):
        _set_roles(person, [], actor)
    audit.record(
        actor=known.username,
        action=Action.PERSON_SIGN_IN_REFUSED,
        kind="refusal",
        target=actor.removeprefix("system:"),
        outcome=reason,
        detail={"roles": known.roles},
    )


def _set_roles(person: Person, roles: list[str], actor: str) -> None:
    if person.roles == roles:
        return
    before, person.roles = list(person.roles), roles
    person.phi_view = person.phi_view and may_hold_phi(roles)
    person.save(update_fields=["roles", "phi_view"])
    audit.record(
        actor=actor,
        action=Action.PERSON_ROLES_SET,
        target=person.username,
        detail={"before": before, "after": roles},
    )
