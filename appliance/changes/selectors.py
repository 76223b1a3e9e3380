"""Reading changes: lists and details for pages, and the facts and signatures the launcher is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F, Q

from appliance.changes import kinds
from appliance.changes.models import Approval, Change
from appliance.changes.rules import Tally
from provisioning import approval

UNDECIDED = (Change.State.OPEN, Change.State.APPROVED)
_LONGEST_NUMBER = 18  # digits that PostgreSQL's bigint surely holds


@dataclass(frozen=True)
class ApprovalRow:
    """An approval as a page shows it."""

    approver: str
    key_id: str
    at: datetime
    signature: str


@dataclass(frozen=True)
class Waiting:
    """A change that waits for somebody, in a line."""

    id: int
    label: str
    opened_at: datetime


@dataclass(frozen=True)
class ChangeRow:
    """A change as a page shows it."""

    id: int
    kind: str
    label: str
    subject: str
    facts: Mapping[str, Any]
    digest: str
    proposer: str
    reason: str
    state: str
    state_label: str
    message: str
    tally: Tally
    approvals: tuple[ApprovalRow, ...]
    opened_at: datetime
    decided_at: datetime | None
    executed_at: datetime | None


def changes(*, states: Sequence[str] = (), subject: str = "", limit: int = 100) -> tuple[ChangeRow, ...]:
    """The newest changes first, narrowed to states and a subject when given."""
    rows = Change.objects.prefetch_related("approvals").order_by("-pk")
    if states:
        rows = rows.filter(state__in=states)
    if subject:
        rows = rows.filter(subject=subject)
    return tuple(_row(change) for change in rows[:limit])


def decided(
    *, text: str = "", state: str = "", proposer: str = "", order: str, offset: int, limit: int, most: int
) -> tuple[tuple[ChangeRow, ...], int]:
    """Some changes that are decided, narrowed and ordered, and how many there are, counted to `most` + 1."""
    rows = Change.objects.exclude(state__in=UNDECIDED).prefetch_related("approvals")
    if text:
        about = Q(reason__icontains=text) | Q(subject__startswith=text.lower()) | Q(facts__bundle__icontains=text)
        if text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER:
            about |= Q(pk=int(text))
        rows = rows.filter(about)
    if state:
        rows = rows.filter(state=state)
    if proposer:
        rows = rows.filter(proposer=proposer)
    key = F({"number": "pk", "state": "state", "proposer": "proposer"}[order.lstrip("-")])
    by = key.desc() if order.startswith("-") else key.asc()
    found = tuple(_row(change) for change in rows.order_by(by, "-pk")[offset : offset + limit])
    return found, rows.order_by()[: most + 1].count()


def change(change_id: int) -> ChangeRow | None:
    """One change, or None."""
    found = Change.objects.prefetch_related("approvals").filter(pk=change_id).first()
    return _row(found) if found else None


def waiting_for(username: str) -> tuple[Waiting, ...]:
    """The open changes this person could still approve: not their own, not yet signed by them. The newest first."""
    rows = Change.objects.filter(state=Change.State.OPEN).exclude(proposer=username)
    rows = rows.exclude(pk__in=Approval.objects.filter(approver=username).values("change")).order_by("-pk")
    found = rows.values_list("pk", "kind", "opened_at")
    return tuple(Waiting(number, kinds.label(kind), opened) for number, kind, opened in found)


def undecided_subjects() -> frozenset[str]:
    """What the changes that are not decided yet are about."""
    return frozenset(Change.objects.filter(state__in=UNDECIDED).values_list("subject", flat=True))


def approved_ids() -> tuple[int, ...]:
    """Changes with all their approvals that were not carried out yet."""
    return tuple(Change.objects.filter(state=Change.State.APPROVED).order_by("pk").values_list("pk", flat=True))


def tally(found: Change) -> Tally:
    """Who has signed this change."""
    return Tally(frozenset(found.approvals.values_list("approver", flat=True)), found.quorum)


def signed_facts(change_id: int) -> tuple[approval.ChangeFacts, tuple[approval.Approval, ...]]:
    """What the signatures cover and the signatures, exactly as stored: the launcher judges, not this row."""
    found = Change.objects.get(pk=change_id)
    facts = approval.ChangeFacts(found.pk, found.kind, found.subject, found.facts, found.proposer, found.quorum)
    return facts, tuple(
        approval.Approval(row.approver, row.key_id, bytes(row.signature)) for row in found.approvals.order_by("pk")
    )


def _row(found: Change) -> ChangeRow:
    approvals: list[Approval] = sorted(found.approvals.all(), key=lambda row: row.pk)
    return ChangeRow(
        id=found.pk,
        kind=found.kind,
        label=kinds.label(found.kind),
        subject=found.subject,
        facts=found.facts,
        digest=found.digest,
        proposer=found.proposer,
        reason=found.reason,
        state=found.state,
        state_label=Change.State(found.state).label,
        message=found.message,
        tally=Tally(frozenset(row.approver for row in approvals), found.quorum),
        approvals=tuple(ApprovalRow(row.approver, row.key_id, row.at, bytes(row.signature).hex()) for row in approvals),
        opened_at=found.opened_at,
        decided_at=found.decided_at,
        executed_at=found.executed_at,
    )
