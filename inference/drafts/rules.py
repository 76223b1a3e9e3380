"""What counts as a draft, and when a decision on one may be put on record. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from appliance.audit.actions import Action
from appliance.audit.selectors import Row
from inference.drafts.errors import AlreadyDecidedError, NoDraftError, RequestNotFoundError
from inference.policy.catalog import TASKS, DataClass, Form, Lane
from inference.policy.rules import Rights, check_reaches

LISTED_FOR = timedelta(days=30)
"""How long a draft that nobody decided about is listed."""

LOOKED_AT = 500
"""How many answers one page of the list goes through, so that its cost does not grow with what was decided."""


class Verdict(StrEnum):
    """What a person did with a draft."""

    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"


def own(rows: Sequence[Row], *, rights: Rights) -> tuple[Row, ...]:
    """A client's own records of one request; RequestNotFoundError, or PolicyRefusal where these rights do not reach."""
    found = tuple(row for row in rows if row.client == rights.client)
    first = next((row for row in found if row.kind in {"intent", "refusal"}), None)
    if first is None:
        raise RequestNotFoundError
    check_reaches(rights, accepted(first))
    return found


def accepted(row: Row) -> Rights:
    """What a request took of its rights, as its record has it."""
    told = json.loads(row.detail)
    # A record that names a user and does not say whether that was proved is kept as if it had been.
    proved = told.get("user_proved", True)
    return Rights(
        client=row.client,
        key_id="",
        tasks=frozenset({row.task} - {""}),
        purposes=frozenset({row.purpose} - {""}),
        lane=Lane.BATCH,
        phi=row.data_class == DataClass.PHI,
        end_user=row.end_user if proved else "",
        vouched_by=told.get("vouched_by", ""),
    )


def check_can_decide(rows: Sequence[Row], *, rights: Rights) -> Row:
    """The answer that is decided about; a DraftError when there is none, or it was decided about."""
    found = own(rows, rights=rights)
    answer = next((row for row in found if row.kind == "outcome" and row.outcome == "ok"), None)
    if answer is None:
        raise NoDraftError
    if decision(found) is not None:
        raise AlreadyDecidedError
    return answer


def decision(rows: Sequence[Row]) -> Row | None:
    """The record of the decision among those of one request."""
    return next((row for row in rows if row.action == Action.DRAFT_DECIDED), None)


def is_draft(row: Row) -> bool:
    """Whether somebody must decide about this outcome: it was finished, and written from a record."""
    task = TASKS.get(row.task)
    return row.outcome == "ok" and task is not None and task.form is Form.RECORD
