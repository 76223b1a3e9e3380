"""`GET /v1/explain/{request_id}`: a receipt resolved, for the client who got it: which model, approved by whom, and where
the log says so. Never a word of the prompt or the answer.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from appliance.audit.actions import Action
from inference.api import reading
from inference.api.desk import Desk
from inference.api.exchange import Exchange
from inference.drafts import selectors
from inference.drafts.selectors import Explained
from inference.policy.rules import Rights


async def retrieve(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """What is on record about one request."""
    found = await desk.rows.call(selectors.explained, rights=rights, request_id=argument)
    row = found.intent
    await reading.record(
        exchange, desk, rights, Action.REQUEST_EXPLAINED, target=argument, task=row.task, purpose=row.purpose
    )
    await exchange.reply(200, _view(found))


def _view(found: Explained) -> dict[str, Any]:
    row, end = found.intent, found.outcome
    return {
        "request_id": row.request_id,
        "object": "explanation",
        "state": found.state,
        "task": row.task,
        "purpose": row.purpose,
        "data_class": row.data_class,
        "lane": found.noted("lane"),
        "end_user": row.end_user,
        "dropped_fields": found.noted("dropped") or [],
        "checks": found.noted("checks"),
        "usage": None if end is None else {"input_tokens": end.input_tokens, "output_tokens": end.output_tokens},
        "started_at": row.at.isoformat(),
        "finished_at": None if end is None else end.at.isoformat(),
        "duration_ms": None if end is None else round((end.at - row.at).total_seconds() * 1000),
        "model": {
            "id": row.model,
            "release_digest": row.release,
            "name": found.release_name,
            "version": found.release_version,
        },
        "change": _change(found),
        "decision": _decision(found),
        "audit": [
            {
                "kind": one.kind,
                "action": one.action,
                "shard": one.shard,
                "seq": one.seq,
                "sealed": one.index is not None,
                "tree_index": one.index,
            }
            for one in found.records
        ],
        "ai_generated": True,
    }


def _change(found: Explained) -> dict[str, Any] | None:
    change = found.change
    if change is None:
        return None
    return {
        "id": change.id,
        "kind": change.kind,
        "digest": change.digest,
        "proposer": change.proposer,
        "approvers": list(change.approvers),
        "executed_at": _time(change.executed_at),
    }


def _decision(found: Explained) -> dict[str, Any] | None:
    row = found.decision
    if row is None:
        return None
    told = json.loads(row.detail)
    return {
        "decision": row.outcome,
        "user": row.end_user,
        "at": row.at.isoformat(),
        "minutes_saved": told.get("minutes_saved"),
        "edit_distance": told.get("edit_distance"),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
