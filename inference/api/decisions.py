"""`/v1/decisions`: the app says what a person did with a draft, and asks which drafts still wait for somebody.

Numbers only, besides the verdict: the edited text stays in the app.
"""

from __future__ import annotations

import re
from typing import Any

from appliance.audit.actions import Action
from inference.api import document, pages, reading
from inference.api.desk import Desk
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.api.fields import Fields
from inference.drafts import selectors, services
from inference.drafts.rules import Verdict
from inference.policy.rules import Rights

MOST_MINUTES = 1_440
MOST_EDITS = 1_000_000
LONGEST_PAGE = 100
_CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,18})-([0-9]{1,18})")


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`POST /v1/decisions`: once for each draft."""
    fields = Fields(document.parse(await exchange.body()), "")
    request_id = fields.token("request_id", required=True)
    verdict = fields.choice("decision", tuple(Verdict))
    if not verdict:
        raise BadRequestError("missing_field", "decision is required", param="decision")
    minutes_saved = fields.number("minutes_saved", 0, MOST_MINUTES)
    edit_distance = fields.number("edit_distance", 0, MOST_EDITS)
    user = fields.token("user")
    fields.end()
    position = await desk.rows.call(
        services.decide,
        actor=rights.client,
        rights=rights,
        request_id=request_id,
        verdict=Verdict(verdict),
        user=user,
        minutes_saved=minutes_saved,
        edit_distance=edit_distance,
        told_by=exchange.request_id,
    )
    audit = {"shard": position.shard, "seq": position.seq}
    await exchange.reply(200, {"object": "decision", "request_id": request_id, "decision": verdict, "audit": audit})


async def list_(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`GET /v1/decisions?state=unreviewed`: the client's finished drafts of the last thirty days without a decision."""
    fields = exchange.query()
    if fields.required("state") != "unreviewed":
        raise fields.range("state", "unreviewed")
    asked = pages.asked(fields, most=LONGEST_PAGE, usual=50)
    after = _cursor(asked.after, fields)
    fields.end()
    page = await desk.rows.call(selectors.unreviewed, rights=rights, before=after, limit=asked.limit)
    await reading.record(exchange, desk, rights, Action.DRAFT_LISTED, target=rights.client)
    data: list[dict[str, Any]] = [
        {
            "request_id": row.request_id,
            "object": "draft",
            "task": row.task,
            "purpose": row.purpose,
            "user": row.end_user,
            "release_digest": row.release,
            "finished_at": row.at.isoformat(),
        }
        for row in page.drafts
    ]
    following = None if page.following is None else "-".join(map(str, page.following))
    await exchange.reply(200, {"object": "list", "data": data, "has_more": following is not None, "next": following})


def _cursor(text: str, fields: Fields) -> selectors.Cursor | None:
    match = _CURSOR.fullmatch(text)
    if text and not match:
        raise fields.range("after", "the `next` of the page before")
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
