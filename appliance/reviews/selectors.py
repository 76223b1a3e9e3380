"""Reading access reviews: what is to be decided now, what was decided, and whether a signed one is as it was signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from appliance.accounts import selectors as accounts
from appliance.reviews import rules
from appliance.reviews.models import Decision, Review

Clients = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class ReviewRow:
    """One review as a page shows it."""

    id: int
    state: str
    opened_by: str
    opened_at: datetime
    signed_by: str
    signed_at: datetime | None
    digest: str
    decisions: tuple[rules.Decision, ...]

    @property
    def is_open(self) -> bool:
        """Whether it can still be decided on."""
        return self.state == Review.State.OPEN

    @property
    def revoked(self) -> tuple[str, ...]:
        """Whose access was not kept."""
        return tuple(one.username for one in self.decisions if one.verdict is rules.Verdict.REVOKE)

    @property
    def left_out(self) -> str:
        """Who signed without anybody having decided about them; "" when another reviewer had."""
        return "" if self.signed_by in {one.username for one in self.decisions} else self.signed_by

    @property
    def is_as_signed(self) -> bool:
        """Whether every word is the one that was signed; a row changed past the service is not."""
        return self.signed_at is not None and self.digest == rules.digest(
            review_id=self.id,
            opened_by=self.opened_by,
            opened_at=self.opened_at,
            signed_by=self.signed_by,
            signed_at=self.signed_at,
            decisions=self.decisions,
        )


def access(clients: Clients) -> tuple[rules.Access, ...]:
    """Everybody who can sign in now, by name; `clients` says which apps each of them owns."""
    return tuple(
        rules.Access(
            username=row.username,
            display_name=row.display_name,
            roles=tuple(role.value for role in row.roles),
            phi_view=row.phi_view,
            factors=_factors(row),
            clients=tuple(sorted(clients.get(row.username, ()))),
            last_sign_in=row.last_sign_in,
        )
        for row in accounts.people()
        if row.is_active
    )


def reviews(limit: int = 50) -> tuple[ReviewRow, ...]:
    """The newest first."""
    return tuple(value(row) for row in Review.objects.prefetch_related("decisions").order_by("-pk")[:limit])


def review(review_id: int) -> ReviewRow | None:
    """One review, or None."""
    found = Review.objects.prefetch_related("decisions").filter(pk=review_id).first()
    return value(found) if found else None


def overdue_since(now: datetime) -> datetime | None:
    """Since when a signed review is missing; None while none is due."""
    signed = Review.objects.filter(state=Review.State.SIGNED).order_by("-signed_at").first()
    return rules.overdue_since(
        last_signed=signed.signed_at if signed else None, first_person=accounts.first_person_at(), now=now
    )


def value(row: Review) -> ReviewRow:
    """The row as the value that rules and pages use."""
    return ReviewRow(
        id=row.pk,
        state=row.state,
        opened_by=row.opened_by,
        opened_at=row.opened_at,
        signed_by=row.signed_by,
        signed_at=row.signed_at,
        digest=row.digest,
        decisions=decisions(row.decisions.all()),
    )


def decisions(rows: Iterable[Decision]) -> tuple[rules.Decision, ...]:
    """Decisions as values, by name."""
    found = (
        rules.Decision(
            username=row.username,
            verdict=rules.Verdict(row.verdict),
            reason=row.reason,
            decided_by=row.decided_by,
            decided_at=row.decided_at,
            facts=row.facts,
        )
        for row in rows
    )
    return tuple(sorted(found, key=lambda one: one.username))


def _factors(row: accounts.PersonRow) -> tuple[str, ...]:
    named = {
        "directory": row.from_directory,
        "password": not row.from_directory,
        "one-time code": row.has_code,
        "signing key": bool(row.signing_key_id),
    }
    return tuple(name for name, held in named.items() if held)
