"""Reading the openings of the sealed account, and everything that was done with it while it was open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance.accounts import selectors as accounts
from appliance.accounts.permissions import Permission
from appliance.accounts.services import sealed
from appliance.audit import selectors as log
from appliance.emergency import rules
from appliance.emergency.models import Opening

MOST_ACTS = 500


@dataclass(frozen=True)
class OpeningRow:
    """One opening as a page shows it."""

    id: int
    state: str
    state_label: str
    reason: str
    asked_by: str
    asked_at: datetime
    opened_at: datetime | None
    closes_at: datetime | None
    closed_at: datetime | None
    reviewed_by: str
    reviewed_at: datetime | None
    finding: str
    tally: rules.Tally


def openings(limit: int = 50) -> tuple[OpeningRow, ...]:
    """The newest first."""
    return tuple(value(row) for row in Opening.objects.prefetch_related("consents").order_by("-pk")[:limit])


def opening(opening_id: int) -> OpeningRow | None:
    """One opening, or None."""
    row = Opening.objects.prefetch_related("consents").filter(pk=opening_id).first()
    return value(row) if row else None


def named() -> tuple[str, ...]:
    """Who may open it, by name."""
    return accounts.holders(Permission.EMERGENCY_OPEN)


def acts(row: OpeningRow) -> tuple[log.Row, ...]:
    """All that is on record of the account from its opening to its end, the newest first."""
    if row.opened_at is None:
        return ()
    until = (row.closed_at or row.closes_at or row.opened_at) + timedelta(seconds=1)
    return log.search(log.Query(actor=sealed.USERNAME, since=row.opened_at, until=until), limit=MOST_ACTS)


def value(row: Opening) -> OpeningRow:
    """The row as the value that rules and pages use."""
    return OpeningRow(
        id=row.pk,
        state=row.state,
        state_label=row.get_state_display(),
        reason=row.reason,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        opened_at=row.opened_at,
        closes_at=row.closes_at,
        closed_at=row.closed_at,
        reviewed_by=row.reviewed_by,
        reviewed_at=row.reviewed_at,
        finding=row.finding,
        tally=rules.Tally(frozenset(one.person for one in row.consents.all())),
    )
