"""Pure decisions about people: names, lockout, which one-time code counts, and which factors somebody must keep.

Clocks drift in a building without the internet. What is learnt of a generator's clock moves the window: three codes count at
any moment, four while the clock is within a step of ours, and each counts once.
"""

from __future__ import annotations

import hmac
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from django_otp.oath import TOTP

from appliance.accounts.errors import (
    DirectoryRolesError,
    EnrolmentError,
    FactorError,
    FirstBootError,
    PersonError,
    PhiRightError,
    ResetError,
    RoleConflictError,
)
from appliance.accounts.permissions import PHI_ROLES, Role, conflict, may_hold_phi

FAILURES_BEFORE_LOCK = 10
LOCKED_FOR = timedelta(minutes=15)
TOTP_STEP_SECONDS = 30
# One step either way: 30 seconds of drift between the box and a telephone.
TOTP_STEPS_AROUND = 1
# What single codes may teach: four minutes. A clock that is farther out is brought back by two codes in a row.
TOTP_DRIFT_LEARNT = 8
# Where two codes in a row are looked for: an hour either way.
TOTP_RESYNC_STEPS = 120

RECOVERY_CODES = 10

# A ward shares an address; nobody on it mistypes a password a hundred times in a quarter of an hour.
NETWORK_FAILURES = 100
NETWORK_WINDOW = timedelta(minutes=15)

CHALLENGE_FOR = timedelta(minutes=5)
RESET_OPEN_FOR = timedelta(hours=24)

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
# 80 bits in base32, with or without the hyphens it is printed with.
_RECOVERY = re.compile(r"[A-Za-z2-7]{4}(?:-?[A-Za-z2-7]{4}){3}", re.ASCII)


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


def step_at(now: float) -> int:
    """The time step of this moment by this machine's clock."""
    return int(now) // TOTP_STEP_SECONDS


def matching_step(*, seed: bytes, code: str, now: float, last_step: int, drift: int = 0) -> int | None:
    """The time step (RFC 6238) this code belongs to, newer than the last one used; None when it does not count."""
    if not _CODE.fullmatch(code):
        return None
    current, found = step_at(now), None
    for offset in offsets_that_count(drift):
        step = current + offset
        # Every step is compared, in constant time, so that the answer does not tell which one was near.
        if hmac.compare_digest(_code_of(seed, step), code) and step > last_step:
            found = step
    return found


def offsets_that_count(drift: int) -> range:
    """Which codes count, in steps from this moment, for a clock that is believed to be so far ahead."""
    # Within a step of ours nothing is lost: a code typed at the end of its half minute counts as it did before.
    near = abs(drift) <= TOTP_STEPS_AROUND
    low, high = (min(drift, 0), max(drift, 0)) if near else (drift, drift)
    return range(low - TOTP_STEPS_AROUND, high + TOTP_STEPS_AROUND + 1)


def learnt_drift(*, known: int, shown: int) -> int:
    """What is believed of a generator's clock after a code that counted, in steps ahead of ours."""
    # Single codes lead no farther out than this, or than two codes in a row have led before.
    return shown if abs(shown) <= max(TOTP_DRIFT_LEARNT, abs(known)) else known


def consecutive_step(*, seed: bytes, codes: tuple[str, str], now: float, last_step: int) -> int | None:
    """The step of the second of two codes in a row, both newer than the last one used; None when they are not that."""
    if not all(_CODE.fullmatch(code) for code in codes):
        return None
    current, found = step_at(now), None
    spelled = [_code_of(seed, step) for step in range(current - TOTP_RESYNC_STEPS, current + TOTP_RESYNC_STEPS + 2)]
    for offset, (first, second) in enumerate(itertools.pairwise(spelled)):
        step = current - TOTP_RESYNC_STEPS + offset
        # Both are compared whatever the first one says, for the same reason as above.
        both = hmac.compare_digest(first, codes[0]) & hmac.compare_digest(second, codes[1])
        if both and step > last_step:
            found = step + 1
    return found


def _code_of(seed: bytes, step: int) -> str:
    totp = TOTP(seed, TOTP_STEP_SECONDS)
    totp.time = step * TOTP_STEP_SECONDS
    return f"{totp.token():06d}"


def plain_recovery_code(written: str) -> str | None:
    """A recovery code as it is hashed: small letters, no hyphens; None when it is not one."""
    return written.replace("-", "").lower() if _RECOVERY.fullmatch(written) else None


def in_fours(plain: str) -> str:
    """A code in groups of four, so that it can be copied by hand."""
    return "-".join(plain[at : at + 4] for at in range(0, len(plain), 4))


def out_of_fours(written: str) -> str:
    """A code as it was made, from how somebody wrote it: in capitals, with blanks, with hyphens or without."""
    return "".join(written.lower().split()).replace("-", "")


def counter_went_back(*, known: int, shown: int) -> bool:
    """Whether a security key's signature counter says that there are two of it (WebAuthn, 6.1.1). Keys without one show 0."""
    return shown <= known and (shown, known) != (0, 0)


def check_can_remove(*, left: int, approves: bool, is_generator: bool) -> None:
    """A person keeps at least one factor, and an approver the generator; FactorError otherwise."""
    if not left:
        raise FactorError("This is your only second factor. Add another one first.")
    if is_generator and approves:
        raise FactorError(
            "Your approvals are opened with a one-time code. Enrol a new generator instead; the old one goes."
        )


def check_can_ask_reset(*, actor: str, username: str, is_active: bool) -> None:
    """Nobody asks it for themselves; ResetError otherwise."""
    if actor == username:
        raise ResetError("Nobody has their own factors taken away; change them on your profile.")
    if not is_active:
        raise ResetError(f"{username} cannot sign in at all, so there is nothing to reset.")


def check_can_agree(*, actor: str, username: str, asked_by: str, asked_at: datetime, now: datetime) -> None:
    """A second person, who is not the one concerned, within a day; ResetError otherwise."""
    if actor in {asked_by, username}:
        raise ResetError("Another person must agree: not the one who asked and not the one concerned.")
    if not asked_at <= now < asked_at + RESET_OPEN_FOR:
        raise ResetError("This was asked more than a day ago. Ask again.")


def network_of(source: str) -> str:
    """The network failures are counted for: one IPv4 address, an IPv6 /64; nothing for what is not an address."""
    try:
        address = ip_address(source)
    except ValueError:
        return ""
    return source if address.version == 4 else str(ip_network((address, 64), strict=False))


def network_held(*, failures: int, since: datetime, now: datetime) -> bool:
    """Whether too many sign-ins failed from one network in the window that is still running."""
    return failures >= NETWORK_FAILURES and since <= now < since + NETWORK_WINDOW


_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def agent_family(agent: str) -> str:
    """A browser and a system in two words, from what the browser says of itself; it proves nothing."""
    browser = next((name for mark, name in _BROWSERS if mark in agent), "Another browser")
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    return f"{browser} on {system}" if system else browser
