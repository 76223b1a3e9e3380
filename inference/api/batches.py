"""`/v1/batches`, as OpenAI defines them: made of a stored file, looked at, cancelled.

The answer to a POST comes after the batch and every line of it are committed. A line that may not be asked is not a
refusal of the batch: it is in the error file, with its reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from inference.admission.errors import NoModelError
from inference.api import document, files, pages, schemas
from inference.api.desk import Desk
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.api.fields import Fields
from inference.api.jobs import idempotency_key
from inference.policy.ask import Ask
from inference.policy.errors import PolicyRefusal
from inference.policy.rules import Rights, check_model
from inference.queue import rules, selectors, services

BATCH = r"batch_[0-9a-f]{24}"
WINDOW = "24h"
_MOST_PAIRS = 16
_LONGEST_KEY = 64
_LONGEST_VALUE = 512


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`POST /v1/batches`. No engine is needed to accept."""
    key = idempotency_key(exchange)
    fields = Fields(document.parse(await exchange.body()), "")
    source = fields.text("input_file_id", required=True)
    endpoint = _one_of(fields, "endpoint", rules.ENDPOINTS)
    _one_of(fields, "completion_window", (WINDOW,))
    metadata = _metadata(fields)
    fields.end()
    served = ""
    with contextlib.suppress(NoModelError):  # accepted work waits for an engine; the model is checked again then
        served = desk.standing.serving().served_model_name
    accepted = await desk.bulk.call(
        services.submit_batch,
        actor=rights.client,
        rights=rights,
        lines=_lines(rights, source, endpoint, served),
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
    found, more = await desk.rows.call(selectors.batches, client=rights.client, after=page.after, limit=page.limit)
    await exchange.reply(200, pages.listed([_view(each) for each in found], more=more))


async def cancel(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`POST /v1/batches/{id}/cancel`."""
    about = {"actor": rights.client, "client": rights.client, "ref": argument}
    await desk.rows.call(services.cancel_batch, request_id=exchange.request_id, **about)
    await _show(exchange, desk, rights, argument)


def _lines(rights: Rights, source: str, endpoint: str, served: str) -> Iterator[rules.Line | rules.BadLine]:
    for number, raw in selectors.file_lines(client=rights.client, ref=source):
        yield _line(number, raw, rights=rights, endpoint=endpoint, served=served)


def _line(number: int, raw: bytes | None, *, rights: Rights, endpoint: str, served: str) -> rules.Line | rules.BadLine:
    """One line, held against the same allow-list as a request of its own."""
    custom_id = ""
    if raw is None:
        return rules.BadLine(number, "line_too_long", f"a line has at most {rules.LONGEST_LINE} bytes")
    try:
        fields = Fields(document.parse(raw), "")
        custom_id = fields.text("custom_id", required=True)
        _one_of(fields, "method", ("POST",))
        _one_of(fields, "url", (endpoint,))
        ask = _ask(fields)
        fields.end()
        if served:
            check_model(ask.model, served, rights)
    except (BadRequestError, PolicyRefusal) as refusal:
        return rules.BadLine(number, refusal.code, refusal.message, refusal.param, custom_id)
    return rules.Line(number, custom_id, ask)


def _ask(fields: Fields) -> Ask:
    request = schemas.chat(fields.take("body"), within="body.")
    if request.stream:
        raise BadRequestError("out_of_range", "a line of a batch is not streamed", param="body.stream")
    return request.ask


def _one_of(fields: Fields, name: str, choices: tuple[str, ...]) -> str:
    found = fields.choice(name, choices)
    if not found:
        raise BadRequestError("missing_field", f"{name} is required: {', '.join(choices)}", param=name)
    return found


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
    await exchange.reply(200, _view(await desk.rows.call(selectors.batch, client=rights.client, ref=ref)))


def _view(found: selectors.BatchView) -> dict[str, Any]:
    counts = found.counts
    ended = {"completed": None, "cancelled": None, "expired": None, found.state: _at(found.finished)}
    return {
        "id": found.ref,
        "object": "batch",
        "endpoint": found.endpoint,
        "errors": None,
        "input_file_id": found.input_file,
        "completion_window": WINDOW,
        "status": found.state,
        # There as soon as they hold a line: a running batch's answers can be read.
        "output_file_id": files.output_id(found.ref, "output") if counts.completed else None,
        "error_file_id": files.output_id(found.ref, "errors") if counts.failed else None,
        "created_at": _at(found.created),
        "in_progress_at": _at(found.created),
        "expires_at": _at(found.expires),
        "finalizing_at": _at(found.finished),
        "completed_at": ended["completed"],
        "failed_at": None,
        "expired_at": ended["expired"],
        "cancelling_at": _at(found.cancelling),
        "cancelled_at": ended["cancelled"],
        "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
        "metadata": found.metadata,
    }


def _at(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
