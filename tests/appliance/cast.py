"""The cast: alice proposes, bob and carol approve, dave audits and may change nothing, erin administers,
grace is the security officer."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django_otp.oath import TOTP

from appliance.accounts import services as accounts
from appliance.accounts.models import TotpDevice

ROLES = {
    "alice": ["model_operator"],
    "bob": ["approver"],
    "carol": ["approver"],
    "dave": ["auditor"],
    "erin": ["it_admin", "app_owner"],
    "grace": ["security_officer"],
}
SEED = b"0123456789abcdefghij"


@dataclass
class Member:
    """A person of the cast with what they know and hold."""

    username: str
    password: str
    seed: bytes = SEED

    def code(self, *, steps: int = 0) -> str:
        """The one-time code now, or some steps away."""
        totp = TOTP(self.seed)
        totp.time = time.time() + 30 * steps
        return f"{totp.token():06d}"


def member(username: str) -> Member:
    """Create one of the cast through the services, with both factors."""
    password = f"{username}-has-a-long-password"
    accounts.create_person(
        actor="test", username=username, display_name=username.title(), password=password, roles=ROLES[username]
    )
    accounts.enrol_totp(actor="test", username=username, seed=SEED, confirmed=True)
    return Member(username, password)


def forget_used_codes() -> None:
    """Let a second act in the same half minute use the same code, as if the time had passed."""
    TotpDevice.objects.update(last_step=0)
