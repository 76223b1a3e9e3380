"""Pure decisions about people: names, lockout, and which one-time code counts."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from django_otp.oath import TOTP

from appliance.accounts.errors import PersonError, RoleConflictError
from appliance.accounts.permissions import Role, conflict

FAILURES_BEFORE_LOCK = 10
LOCKED_FOR = timedelta(minutes=15)
TOTP_STEP_SECONDS = 30
# One step either way: 30 seconds of drift between the box and a telephone.
TOTP_STEPS_AROUND = 1

_USERNAME = re.compile(r"[a-z][a-z0-9._-]{1,31}")
# ASCII only: int() also reads full-width and Arabic digits, underscores, blanks and a sign.
_CODE = re.compile(r"[0-9]{6}", re.ASCII)


def check_username(username: str) -> None:
    """2 to 32 of a-z, 0-9, '.', '_', '-', beginning with a letter; PersonError otherwise."""
    if not _USERNAME.fullmatch(username):
        raise PersonError("A user name is 2 to 32 of a-z, 0-9, '.', '_' and '-', and begins with a letter.")


def check_roles(roles: Sequence[str]) -> None:
    """Known roles that do not put two duties in one hand; PersonError or RoleConflictError otherwise."""
    unknown = sorted(set(roles) - {role.value for role in Role})
    if unknown:
        raise PersonError(f"Unknown role: {', '.join(unknown)}.")
    pair = conflict(roles)
    if pair:
        raise RoleConflictError(f"These roles together would give one person both {pair[0]} and {pair[1]}.")


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
