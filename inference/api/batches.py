"""`/v1/batches`, as OpenAI defines them: made of a stored file, looked at, cancelled.

The answer to a POST comes after the batch is committed; a worker reads its lines then (`expanding`). A line that may
not be asked is not a refusal of the batch: it is in the error file, with its reason.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from inference.api import document, files, lines, pages
from inference.api.desk import Desk
from inference.api.exchange import Exchange
from inference.api.fields import Fields
from inference.api.jobs import idempotency_key
from inference.policy.rules import Rights, check_reaches
from inference.queue import rules, selectors, services

BATCH = r"batch_[0-9a-f]{24}"
WINDOW = "24h"
_MOST_PAIRS = 16
_LONGEST_KEY = 64
_LONGEST_VALUE = 512
_EMPTY = {
    "object": "list",
    "data": [{"code": "batch_empty", "message": "the file holds no line", "param": None, "line": None}],
}


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`POST /v1/batches`. No engine is needed to accept."""
    key = idempotency_key(exchange)
    fields = Fields(document.parse(await exchange.body()), "")
    source = fields.text("input_file_id", required=True)
    endpoint = lines.one_of(fields, "endpoint", rules.ENDPOINTS)
    lines.one_of(fields, "completion_window", (WINDOW,))
    metadata = _metadata(fields)
    fields.end()
    accepted = await desk.rows.call(
        services.accept_batch,
        actor=rights.client,
        rights=rights,
        input_file=source,
        endpoint=endpoint,
        metadata=metadata,
        request_id=exchange.request_id,
        idempotency_key=key,
    )
    if not accepted.again:
        desk.bell.ring_batch(accepted.ref)
    await _show(exchange, desk, rights, accepted.ref)


async def retrieve(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`GET /v1/batches/{id}`."""
    await _show(exchange, desk, rights, argument)


async def list_(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`GET /v1/batches`, newest first."""
    fields = exchange.query()
    page = pages.asked(fields, most=100)
    fields.end()
    found, more = await desk.rows.call(selectors.batches, rights=rights, after=page.after, limit=page.limit)
    await exchange.reply(200, pages.listed([_view(each) for each in found], more=more))


async def cancel(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`POST /v1/batches/{id}/cancel`."""
    about: dict[str, Any] = {"actor": rights.client, "rights": rights, "ref": argument}
    await desk.rows.call(services.cancel_batch, request_id=exchange.request_id, **about)
    await _show(exchange, desk, rights, argument)


def _metadata(fields: Fields) -> dict[str, str] | None:
    """OpenAI's sixteen pairs; ours are only kept and given back."""
    given = fields.take("metadata")
    if given is None:
        return None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise fields.wrong("metadata", "an object of texts")
    if len(given) > _MOST_PAIRS or any(len(k) > _LONGEST_KEY or len(v) > _LONGEST_VALUE for k, v in given.items()):
        raise fields.range("metadata", "at most 16 pairs of 64 and 512 characters")
    return given


async def _show(exchange: Exchange, desk: Desk, rights: Rights, ref: str) -> None:
    found = await desk.rows.call(selectors.batch, client=rights.client, ref=ref)
    check_reaches(rights, found.accepted)
    await exchange.reply(200, _view(found))


def _view(found: selectors.BatchView) -> dict[str, Any]:
    counts = found.counts
    ended = {"completed": None, "cancelled": None, "expired": None, "failed": None, found.state: _at(found.finished)}
    return {
        "id": found.ref,
        "object": "batch",
        "endpoint": found.endpoint,
        "errors": _EMPTY if found.state == "failed" else None,
        "input_file_id": found.input_file,
        "completion_window": WINDOW,
        "status": found.state,
        # There as soon as they hold a line: a running batch's answers can be read.
        "output_file_id": files.output_id(found.ref, "output") if counts.completed else None,
        "error_file_id": files.output_id(found.ref, "errors") if counts.failed else None,
        "created_at": _at(found.created),
        "in_progress_at": _at(found.started),
        "expires_at": _at(found.expires),
        "finalizing_at": _at(found.finished),
        "completed_at": ended["completed"],
        "failed_at": ended["failed"],
        "expired_at": ended["expired"],
        "cancelling_at": _at(found.cancelling),
        "cancelled_at": ended["cancelled"],
        "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
        "metadata": found.metadata,
    }


def _at(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
