"""Putting a person's decision on record.

The log is the only store: a decision is one record beside those of the request it decides about, found by the same
index, and as hard to change (docs/decisions/0015).
"""

from __future__ import annotations

import json

from django.db import connection, transaction

from appliance.audit import selectors as log
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.entry import Entry, Position, now_us
from inference.drafts import rules
from inference.drafts.rules import Verdict
from inference.policy.rules import Rights, check_user


@transaction.atomic
def decide(
    *,
    actor: str,
    rights: Rights,
    request_id: str,
    verdict: Verdict,
    user: str = "",
    minutes_saved: float | None = None,
    edit_distance: float | None = None,
    told_by: str = "",
) -> Position:
    """Record what was done with a draft of this client's, once; a DraftError otherwise. `told_by`: in which request."""
    check_user(user, rights)
    with connection.cursor() as cursor:
        # Two at once would each find nothing decided yet: no constraint can say "once" over rows of the log.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"draft.decided:{request_id}"])
    answer = rules.check_can_decide(log.of_request(request_id), rights=rights)
    told = {
        "user_proved": bool(rights.end_user),
        "told_by": told_by,
        "minutes_saved": minutes_saved,
        "edit_distance": edit_distance,
    }
    return audit.write(
        Entry(
            at_us=now_us(),
            kind="act",
            action=Action.DRAFT_DECIDED.value,
            actor=actor,
            outcome=verdict.value,
            target=answer.task,
            request_id=request_id,
            client=rights.client,
            key_id=rights.key_id,
            end_user=rights.end_user or user,
            purpose=answer.purpose,
            task=answer.task,
            model=answer.model,
            release=answer.release,
            change_id=answer.change_id,
            detail=json.dumps({name: value for name, value in told.items() if value not in (None, "")}),
        )
    )
