"""Reads of what became of a client's requests: one explained, and the drafts nobody decided about yet.

Everything here comes from the log and from the tables of changes and releases. No text of a patient is in any of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from appliance.audit import selectors as log
from appliance.audit.actions import Action
from appliance.changes import selectors as changes
from inference.drafts import rules
from inference.policy.rules import Rights, withheld
from inference.releases import selectors as releases
from inference.releases.errors import NotFoundError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Cursor = tuple[int, int, int]


@dataclass(frozen=True)
class Placed:
    """One record of the request: where it stands in the log, and in the sealed tree once it is sealed."""

    kind: str
    action: str
    at: datetime
    shard: int
    seq: int
    index: int | None


@dataclass(frozen=True)
class Approved:
    """The change under which the model answered, and who agreed to it."""

    id: int
    kind: str
    digest: str
    proposer: str
    approvers: tuple[str, ...]
    executed_at: datetime | None


@dataclass(frozen=True)
class Explained:
    """One request, from the label to the seal."""

    intent: log.Row
    outcome: log.Row | None
    decision: log.Row | None
    records: tuple[Placed, ...]
    release_name: str
    release_version: int | None
    change: Approved | None

    @property
    def state(self) -> str:
        """How it ended, in the log's word; `running` while it has not."""
        return self.outcome.outcome if self.outcome is not None else "running"

    def noted(self, name: str) -> Any:
        """A fact from the details of the intent or the outcome."""
        for row in (self.intent, self.outcome):
            found = json.loads(row.detail).get(name) if row is not None else None
            if found is not None:
                return found
        return None


@dataclass(frozen=True)
class Page:
    """Drafts without a decision, newest first, and where the next page begins."""

    drafts: tuple[log.Row, ...]
    following: Cursor | None


def explained(*, rights: Rights, request_id: str) -> Explained:
    """A client's own request; RequestNotFoundError for anybody else's."""
    rows = rules.own(log.of_request(request_id), rights=rights)
    first = next(row for row in rows if row.kind in {"intent", "refusal"})
    name, version = _release(first.release)
    return Explained(
        intent=first,
        outcome=first if first.kind == "refusal" else next((row for row in rows if row.kind == "outcome"), None),
        decision=rules.decision(rows),
        records=tuple(_placed(row) for row in rows),
        release_name=name,
        release_version=version,
        change=_change(first.change_id),
    )


def unreviewed(*, rights: Rights, before: Cursor | None, limit: int) -> Page:
    """One page of the client's drafts of the last days that nobody decided about and that these rights reach."""
    client = rights.client
    query = log.Query(
        actor=client, client=client, kind="outcome", since=timezone.now() - rules.LISTED_FOR, before=before
    )
    answers = log.search(query, limit=rules.LOOKED_AT)
    drafts = [row for row in answers if rules.is_draft(row) and withheld(rules.accepted(row), rights) is None]
    decided = log.requests_with(Action.DRAFT_DECIDED, [row.request_id for row in drafts])
    waiting = [row for row in drafts if row.request_id not in decided]
    return Page(tuple(waiting[:limit]), _following(answers, waiting, limit))


def _following(answers: Sequence[log.Row], waiting: Sequence[log.Row], limit: int) -> Cursor | None:
    if len(waiting) > limit:
        return _key(waiting[limit - 1])
    return _key(answers[-1]) if len(answers) == rules.LOOKED_AT else None


def _key(row: log.Row) -> Cursor:
    # In whole microseconds: a float of seconds would be off by one now and then, and a row lost or shown twice.
    return ((row.at - _EPOCH) // timedelta(microseconds=1), row.shard, row.seq)


def _placed(row: log.Row) -> Placed:
    return Placed(row.kind, row.action, row.at, row.shard, row.seq, log.sealed_index(shard=row.shard, seq=row.seq))


def _release(digest: str) -> tuple[str, int | None]:
    try:
        found = releases.find(digest)
    except NotFoundError:
        return "", None
    return found.name, found.version


def _change(change_id: int) -> Approved | None:
    found = changes.change(change_id) if change_id else None
    if found is None:
        return None
    return Approved(
        id=found.id,
        kind=found.kind,
        digest=found.digest,
        proposer=found.proposer,
        approvers=tuple(approval.approver for approval in found.approvals),
        executed_at=found.executed_at,
    )
