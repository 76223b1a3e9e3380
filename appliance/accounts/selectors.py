"""Reading people: lists for pages, and the roster that approvals are checked against."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance.accounts.models import FirstBoot, Person, SigningKey, TotpDevice
from appliance.accounts.permissions import Permission, Role, granted
from provisioning.approval import RosterEntry


@dataclass(frozen=True)
class PersonRow:
    """A person as a page shows it."""

    username: str
    display_name: str
    roles: tuple[Role, ...]
    phi_view: bool
    from_directory: bool
    is_active: bool
    has_code: bool
    signing_key_id: str
    locked_until: datetime | None
    last_sign_in: datetime | None
    created_at: datetime


def people() -> tuple[PersonRow, ...]:
    """Everybody, active first, by name."""
    with_code = set(TotpDevice.objects.filter(confirmed=True).values_list("user_id", flat=True))
    keys = dict(SigningKey.objects.filter(retired_at=None).values_list("person", "key_id"))
    return tuple(
        PersonRow(
            username=person.username,
            display_name=person.display_name,
            roles=tuple(Role(role) for role in person.roles),
            phi_view=person.may_see_patients,
            from_directory=bool(person.directory_id),
            is_active=person.is_active,
            has_code=person.pk in with_code,
            signing_key_id=keys.get(person.username, ""),
            locked_until=person.locked_until,
            last_sign_in=person.last_login,
            created_at=person.created_at,
        )
        for person in Person.objects.order_by("-is_active", "username")
    )


def person(username: str) -> PersonRow | None:
    """One person, or None."""
    return next((row for row in people() if row.username == username), None)


def is_first_boot() -> bool:
    """Whether this machine has never had anybody of its own: whom a directory brings cannot run it."""
    return not (
        Person.objects.filter(directory_id="").exists() or FirstBoot.objects.filter(done_at__isnull=False).exists()
    )


def first_person_at() -> datetime | None:
    """When this machine came to its first person; None while it has nobody."""
    return Person.objects.order_by("created_at").values_list("created_at", flat=True).first()


def permissions_of(username: str) -> frozenset[Permission]:
    """What this person may do now; nothing for an unknown or inactive one."""
    roles = Person.objects.filter(username=username, is_active=True).values_list("roles", flat=True).first()
    return granted(roles or ())


def holders(permission: Permission) -> tuple[str, ...]:
    """The active people who hold a permission, by name."""
    return tuple(p.username for p in Person.objects.filter(is_active=True).order_by("username") if p.may(permission))


def roster() -> tuple[RosterEntry, ...]:
    """Every signing key ever enrolled: what somebody approved while in office stays approved after they leave."""
    return tuple(
        RosterEntry(key.person, key.key_id, bytes(key.public_key), bytes(key.mac))
        for key in SigningKey.objects.order_by("pk")
    )
