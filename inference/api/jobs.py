"""`/v1/jobs`: hand in work for later, ask how it stands, cancel or forget it. The row is committed before the 202."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from appliance.audit.actions import Action
from appliance.audit.entry import Entry, now_us
from inference.admission.errors import NoModelError
from inference.api import document, pages, schemas, sse
from inference.api.desk import Desk
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.policy.ask import Ask
from inference.policy.rules import Rights, check_model, check_reaches
from inference.queue import selectors, services

STATES = ("queued", "running", "succeeded", "failed", "cancelled")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,128}")


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`POST /v1/jobs`: 202 with the job's id."""
    accepted = await accept(exchange, desk, rights, schemas.job(document.parse(await exchange.body())))
    await exchange.reply(202, {"id": accepted.ref, "object": "job", "state": accepted.state})


async def accept(exchange: Exchange, desk: Desk, rights: Rights, ask: Ask) -> services.Accepted:
    """Put the work on the books and ring for it. No engine is needed to accept."""
    key = idempotency_key(exchange)
    with contextlib.suppress(NoModelError):  # accepted work waits for an engine; the model is checked again then
        check_model(ask.model, desk.standing.serving().served_model_name, rights)
    accepted = await desk.rows.call(
        services.submit,
        actor=rights.client,
        rights=rights,
        ask=ask,
        request_id=exchange.request_id,
        idempotency_key=key,
    )
    if not accepted.again:
        desk.bell.ring(accepted.ref)
    return accepted


async def retrieve(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`GET /v1/jobs/{id}`: the state, the position while it waits, the result once it is there."""
    found = await desk.rows.call(selectors.of_client, client=rights.client, ref=argument)
    check_reaches(rights, found.accepted)
    if found.result is not None:
        # A result is patient text leaving the box: no record, no result.
        await desk.channel.put(_read(found, rights, exchange.request_id))
    await exchange.reply(200, _view(found))


async def list_(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`GET /v1/jobs`: the client's own, newest first, each with its place in the line; or the lines of one batch."""
    fields = exchange.query()
    page = pages.asked(fields, most=100)
    state, batch = fields.choice("state", STATES), fields.token("batch")
    fields.end()
    found = await desk.rows.call(
        selectors.list_of_client, rights=rights, state=state, batch=batch, after=page.after, limit=page.limit
    )
    await exchange.reply(200, pages.listed([_view(each) for each in found.jobs], more=found.has_more))


async def delete(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`DELETE /v1/jobs/{id}`: an ended job and its result are forgotten."""
    await desk.rows.call(
        services.delete, actor=rights.client, rights=rights, ref=argument, request_id=exchange.request_id
    )
    await exchange.reply(200, {"id": argument, "object": "job", "deleted": True})


def idempotency_key(exchange: Exchange) -> str:
    """The caller's own name for this request, or nothing."""
    key = exchange.header(b"idempotency-key") or ""
    if exchange.has(b"idempotency-key") and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise BadRequestError("invalid_idempotency_key", "Idempotency-Key is 1 to 128 printable characters")
    return key


async def cancel(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`POST /v1/jobs/{id}/cancel`."""
    state = await desk.rows.call(
        services.cancel, actor=rights.client, rights=rights, ref=argument, request_id=exchange.request_id
    )
    await exchange.reply(200, {"id": argument, "object": "job", "state": state, "cancel_requested": True})


def _view(found: selectors.Answered) -> dict[str, Any]:
    job = found.job
    return {
        "id": job.ref,
        "object": "job",
        "state": job.state,
        "position": found.position,
        "attempt": job.attempt,
        "task": job.task,
        "purpose": job.purpose,
        "created": int(job.created.timestamp()),
        "started": None if job.started is None else int(job.started.timestamp()),
        "finished": None if job.finished is None else int(job.finished.timestamp()),
        "cancel_requested": job.cancel_requested,
        "error": {"code": job.code} if job.code else None,
        "result": None if found.result is None else sse.finished(found.result, at=job.finished),
    }


def _read(found: selectors.Answered, rights: Rights, request_id: str) -> Entry:
    return Entry(
        at_us=now_us(),
        kind="read",
        action=Action.JOB_READ.value,
        actor=rights.client,
        outcome="ok",
        target=found.job.ref,
        request_id=request_id,
        client=rights.client,
        key_id=rights.key_id,
        end_user=rights.end_user,
        purpose=found.job.purpose,
        task=found.job.task,
    )
