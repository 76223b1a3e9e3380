"""Pure decisions about people: names, lockout, and which one-time code counts."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django_otp.oath import TOTP

from appliance.accounts.errors import (
    DirectoryRolesError,
    EnrolmentError,
    FirstBootError,
    PersonError,
    PhiRightError,
    RoleConflictError,
)
from appliance.accounts.permissions import PHI_ROLES, Role, conflict, may_hold_phi

FAILURES_BEFORE_LOCK = 10
LOCKED_FOR = timedelta(minutes=15)
TOTP_STEP_SECONDS = 30
# One step either way: 30 seconds of drift between the box and a telephone.
TOTP_STEPS_AROUND = 1

# Why nobody came in although the directory knew the password.
DIRECTORY_DISABLED = "directory_disabled"
DIRECTORY_NO_ROLE = "directory_no_role"
DIRECTORY_ROLE_CONFLICT = "directory_role_conflict"
DIRECTORY_IDENTITY = "directory_identity_changed"
# An approver's signing key opens with a password that is kept here (decision 0001); a directory's password can be set by
# whoever runs the directory, and would open nothing or, worse, somebody else's vote (decision 0020).
NEVER_FROM_DIRECTORY = frozenset({Role.APPROVER})

# The one account of no person (services.sealed): nobody is created under its name, and no directory brings it.
SEALED_ACCOUNT = "break-glass"
# Given by hand, used the same day.
ENROLMENT_FOR = timedelta(hours=24)
# Long enough to find two people and two telephones; short enough that a printout is worth nothing tomorrow.
FIRST_BOOT_FOR = timedelta(minutes=60)
FIRST_BOOT_TRIES = 10
# One to run the machine and one to watch and to vote: neither set may stand in the other's hand.
FIRST_DUTIES: tuple[tuple[Role, ...], ...] = ((Role.IT_ADMIN,), (Role.APPROVER, Role.SECURITY_OFFICER))

_USERNAME = re.compile(r"[a-z][a-z0-9._-]{1,31}")
# ASCII only: int() also reads full-width and Arabic digits, underscores, blanks and a sign.
_CODE = re.compile(r"[0-9]{6}", re.ASCII)


def check_username(username: str) -> None:
    """2 to 32 of a-z, 0-9, '.', '_', '-', beginning with a letter; PersonError otherwise."""
    if username == SEALED_ACCOUNT:
        raise PersonError(f"{SEALED_ACCOUNT} is the name of the sealed account and nobody's.")
    if not _USERNAME.fullmatch(username):
        raise PersonError("A user name is 2 to 32 of a-z, 0-9, '.', '_' and '-', and begins with a letter.")


def check_roles(roles: Sequence[str]) -> None:
    """Known roles that do not put two duties in one hand; PersonError or RoleConflictError otherwise."""
    unknown = sorted(set(roles) - {role.value for role in Role})
    if unknown:
        raise PersonError(f"Unknown role: {', '.join(unknown)}.")
    found = conflict(roles)
    if found:
        raise RoleConflictError(
            f"These roles together would give one person both {found.one} and {found.other}, who {found.why}."
        )


def check_phi_right(*, actor: str, username: str, roles: Sequence[str]) -> None:
    """PhiRightError unless somebody else's work, by their roles, is to judge patients' text."""
    if actor == username:
        raise PhiRightError("Nobody gives themselves the right to see patients' text; ask another privacy officer.")
    if not may_hold_phi(roles):
        wanted = ", ".join(sorted(role.label for role in PHI_ROLES))
        raise PhiRightError(
            f"The right to see patients' text goes with the role {wanted}, and with no role that runs this machine "
            f"or gives that right. The roles of {username} do not fit."
        )


def check_directory_roles(roles: Iterable[str], table: str = "directory") -> None:
    """DirectoryRolesError for a role that does not exist or may not come from a directory."""
    for role in sorted(roles):
        if role not in {known.value for known in Role}:
            raise DirectoryRolesError(f"{table}.roles.{role}: there is no such role; write one of {', '.join(Role)}")
        if role in NEVER_FROM_DIRECTORY:
            raise DirectoryRolesError(
                f"{table}.roles.{role}: an approver's signing key opens with a password kept on this machine, so "
                "approvers are local accounts; remove the line and create them with create_person"
            )


def roles_of_groups(groups: Iterable[str], mapping: Mapping[str, Iterable[str]]) -> list[str]:
    """The roles these groups are worth: exactly those they are mapped to, in order."""
    held = frozenset(groups) - {""}
    return sorted(role for role, names in mapping.items() if held & frozenset(names))


def directory_refusal(*, disabled: bool, roles: Sequence[str], known_id: str, id_now: str) -> str:
    """Why somebody whose password was right does not come in; "" when they do."""
    if known_id != id_now:
        return DIRECTORY_IDENTITY  # the name was given to somebody else since
    if disabled:
        return DIRECTORY_DISABLED
    if not roles:
        return DIRECTORY_NO_ROLE
    return DIRECTORY_ROLE_CONFLICT if conflict(roles) else ""


def check_can_give_enrolment(*, actor: str, username: str, is_active: bool, has_factor: bool) -> None:
    """EnrolmentError unless this is a first enrolment: whoever has a factor keeps it or loses it by another act."""
    if actor == username:
        raise EnrolmentError("Nobody gives themselves a code to enrol with.")
    if not is_active:
        raise EnrolmentError(f"{username} is deactivated.")
    if has_factor:
        raise EnrolmentError(f"{username} has a second factor already. This code is for the first one only.")


def check_first_people(usernames: Sequence[str], passwords: Sequence[str]) -> None:
    """FirstBootError unless they are as many people as there are duties, each with a name and a password of their own."""
    if len(usernames) != len(FIRST_DUTIES) or len(set(usernames)) != len(usernames):
        raise FirstBootError("Two different people are needed, each with a name of their own.")
    if len(set(passwords)) != len(passwords):
        raise FirstBootError("The two passwords are the same. Each of the two chooses their own, unseen by the other.")


def first_boot_open(*, secret: str, expires_at: datetime, tries: int, now: datetime) -> bool:
    """Whether a secret is out that may still be tried."""
    return bool(secret) and now < expires_at and tries < FIRST_BOOT_TRIES


def locked(*, until: datetime | None, now: datetime) -> bool:
    """Whether the account is locked at this moment."""
    return until is not None and now < until


def lock_after(failures: int, now: datetime) -> datetime | None:
    """When an account with this many failures in a row opens again; None while it stays open."""
    return now + LOCKED_FOR if failures >= FAILURES_BEFORE_LOCK else None


def matching_step(*, seed: bytes, code: str, now: float, last_step: int) -> int | None:
    """The time step (RFC 6238) this code belongs to, newer than the last one used; None when it does not count."""
    if not _CODE.fullmatch(code):
        return None
    current = int(now) // TOTP_STEP_SECONDS
    found = None
    for step in range(current - TOTP_STEPS_AROUND, current + TOTP_STEPS_AROUND + 1):
        totp = TOTP(seed, TOTP_STEP_SECONDS)
        totp.time = step * TOTP_STEP_SECONDS
        # Every step is compared, in constant time, so that the answer does not tell which one was near.
        if hmac.compare_digest(f"{totp.token():06d}", code) and step > last_step:
            found = step
    return found
