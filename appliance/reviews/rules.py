"""Pure decisions about access reviews: what a decision is made on, when it still fits, and when a review is due.

- A decision is about a person as they were shown. Once their roles, their right to patients' text or their clients
  differ, it is no decision any more.
- Nobody decides about themselves; whoever signs leaves their own account to another reviewer, and the record says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from appliance.reviews.errors import OwnAccessError, ReviewError, UndecidedError
from provisioning import canonical

DUE_EVERY = timedelta(days=90)
MOST_REASON = 500


class Verdict(StrEnum):
    """What a reviewer says of one person's access."""

    KEEP = "keep"
    REVOKE = "revoke"


@dataclass(frozen=True)
class Access:
    """What one person can do here and how they come in, as a reviewer is shown it."""

    username: str
    display_name: str
    roles: tuple[str, ...]
    phi_view: bool
    factors: tuple[str, ...]
    clients: tuple[str, ...]
    last_sign_in: datetime | None

    def facts(self) -> dict[str, object]:
        """As it stands in the record of the review."""
        return {
            "display_name": self.display_name,
            "roles": list(self.roles),
            "phi_view": self.phi_view,
            "factors": list(self.factors),
            "clients": list(self.clients),
            "last_sign_in": self.last_sign_in.isoformat() if self.last_sign_in else "",
        }


@dataclass(frozen=True)
class Decision:
    """What was said of one person, by whom, and on what."""

    username: str
    verdict: Verdict
    reason: str
    decided_by: str
    decided_at: datetime
    facts: Mapping[str, object]

    def fits(self, access: Access) -> bool:
        """Whether the person can still do exactly what was decided on; having signed in since changes nothing."""
        now = access.facts()
        return all(self.facts.get(name) == now[name] for name in ("roles", "phi_view", "clients"))

    def record(self) -> dict[str, object]:
        """As the digest covers it."""
        return {
            "username": self.username,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "decided_by": self.decided_by,
            "decided_at": self.decided_at.isoformat(),
            "facts": dict(self.facts),
        }


def check_decision(*, actor: str, username: str, reason: str) -> None:
    """OwnAccessError or ReviewError when this person cannot say this."""
    if actor == username:
        raise OwnAccessError("Nobody decides about their own access; another reviewer does.")
    if not reason.strip():
        raise ReviewError("Say why, in a few words.")
    if len(reason) > MOST_REASON:
        raise ReviewError(f"A reason has at most {MOST_REASON} characters.")


def undecided(*, actor: str, people: Iterable[Access], decisions: Mapping[str, Decision]) -> tuple[str, ...]:
    """Whose access still has no decision that fits, but for the signer's own."""
    return tuple(
        person.username
        for person in people
        if person.username != actor
        and (person.username not in decisions or not decisions[person.username].fits(person))
    )


def check_complete(missing: Sequence[str]) -> None:
    """UndecidedError while anybody is missing."""
    if missing:
        raise UndecidedError(f"Not decided, or changed since it was: {', '.join(missing)}. Look at them again.")


def digest(
    *,
    review_id: int,
    opened_by: str,
    opened_at: datetime,
    signed_by: str,
    signed_at: datetime,
    decisions: Iterable[Decision],
) -> str:
    """SHA-256 over everything the review says, in one byte form."""
    return canonical.digest(
        {
            "form": "isoward-access-review-1",
            "review": review_id,
            "opened_by": opened_by,
            "opened_at": opened_at.isoformat(),
            "signed_by": signed_by,
            "signed_at": signed_at.isoformat(),
            "decisions": [one.record() for one in sorted(decisions, key=lambda one: one.username)],
        }
    )


def overdue_since(*, last_signed: datetime | None, first_person: datetime | None, now: datetime) -> datetime | None:
    """Since when a review should have been signed; None while none is due. A machine without people owes none."""
    since = last_signed or first_person
    return since + DUE_EVERY if since is not None and now >= since + DUE_EVERY else None
