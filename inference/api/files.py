"""`/v1/files`: store the input of a batch, read it or a batch's output back, forget it.

Input is sealed a piece at a time as it arrives, so nobody ever holds the whole. Output is no file of its own: it is
written from the batch's jobs while it is read, also while the batch still runs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from appliance.audit.actions import Action
from appliance.audit.entry import Entry, now_us
from inference.api import errors, pages, sse
from inference.api.desk import Desk
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.api.fields import Fields
from inference.api.forms import Form
from inference.policy.rules import Rights, check_reaches
from inference.queue import rules, selectors, services
from inference.queue.errors import BatchNotFoundError, FileNotStoredError

FILE = r"file-[0-9a-f]{24}(?:-output|-errors)?"
_SLOWEST_S = 300.0
_LONGEST_NAME = 256
_PURPOSE = "batch"


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`POST /v1/files`: multipart, purpose `batch`, JSON lines."""
    form, upload = Form("file"), _Upload(desk, rights)
    try:
        async for _ in form.arriving(exchange, most=rules.LARGEST_FILE, within_s=_SLOWEST_S):
            await upload.keep(form, at_least=rules.PIECE)
        _check(form.fields)
        await upload.keep(form, at_least=1)
        ref = await upload.finish(exchange.request_id)
    except BaseException:
        await upload.discard()
        raise
    found = await desk.rows.call(selectors.file, client=rights.client, ref=ref)
    await exchange.reply(200, _view(found))


async def list_(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`GET /v1/files`, newest first."""
    fields = exchange.query()
    page = pages.asked(fields, most=10_000)
    purpose = fields.token("purpose")
    fields.end()
    found, more = await desk.rows.call(selectors.files, rights=rights, after=page.after, limit=page.limit)
    shown = [_view(each) for each in found] if purpose in {"", _PURPOSE} else []
    await exchange.reply(200, pages.listed(shown, more=more and bool(shown)))


async def retrieve(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`GET /v1/files/{id}`."""
    ref, kind = _which(argument)
    if kind is None:
        await exchange.reply(200, _view(await _file_of(desk, rights, ref)))
        return
    batch = await _batch(desk, rights, ref)
    lines, size = await desk.rows.call(selectors.output_size, ref=batch.ref, failed=kind == "errors")
    if not lines:
        raise FileNotStoredError
    created = batch.finished or batch.created
    await exchange.reply(200, _file(argument, "batch_output", f"{batch.ref}_{kind}.jsonl", size, created))


async def content(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`GET /v1/files/{id}/content`: patient text leaves the box, so no record, no content."""
    ref, kind = _which(argument)
    if kind is None:
        await _file_of(desk, rights, ref)
        parts = _pieces(desk, rights, ref)
    else:
        batch = await _batch(desk, rights, ref)
        parts = _lines(desk, rights, batch.ref, failed=kind == "errors")
    first = await anext(parts, b"")
    if not first:
        raise FileNotStoredError
    await desk.channel.put(_read(argument, rights, exchange.request_id))
    await exchange.download()
    await exchange.event(first)
    async for part in parts:
        desk.standing.check_still(rights)  # a large file takes minutes
        await exchange.event(part)
    await exchange.end()


async def delete(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`DELETE /v1/files/{id}`."""
    ref, kind = _which(argument)
    about: dict[str, Any] = {"actor": rights.client, "rights": rights, "request_id": exchange.request_id}
    if kind is None:
        await desk.rows.call(services.delete_file, ref=ref, **about)
    else:
        batch = await _batch(desk, rights, ref)
        await desk.rows.call(services.delete_output, ref=batch.ref, failed=kind == "errors", **about)
    await exchange.reply(200, {"id": argument, "object": "file", "deleted": True})


def output_id(batch: str, kind: str) -> str:
    """The file id of a batch's output or errors: it says which batch's."""
    return f"file-{batch.removeprefix('batch_')}-{kind}"


class _Upload:
    """The rows of a file while it arrives."""

    def __init__(self, desk: Desk, rights: Rights) -> None:
        self._desk = desk
        self._rights = rights
        self._ref = ""
        self._pieces = 0
        self._breaks = 0
        self._size = 0
        self._open_line = False

    async def keep(self, form: Form, *, at_least: int) -> None:
        """Store what has come, once it is that much."""
        while len(form.file) >= at_least:
            piece = bytes(form.file[: rules.PIECE])
            del form.file[: rules.PIECE]
            self._size += len(piece)
            self._breaks += piece.count(b"\n")
            self._open_line = not piece.endswith(b"\n")
            if self._size > rules.LARGEST_FILE:
                raise BadRequestError("body_too_large", f"a file has at most {rules.LARGEST_FILE} bytes", param="file")
            if self._lines > rules.MOST_LINES:
                raise BadRequestError("too_many_lines", f"a file has at most {rules.MOST_LINES} lines", param="file")
            if not self._ref:
                self._ref = await self._desk.rows.call(services.begin_file, rights=self._rights, name=_name(form))
            await self._desk.rows.call(services.add_piece, ref=self._ref, number=self._pieces, content=piece)
            self._pieces += 1

    @property
    def _lines(self) -> int:
        return self._breaks + self._open_line

    async def finish(self, request_id: str) -> str:
        await self._desk.rows.call(
            services.finish_file,
            actor=self._rights.client,
            rights=self._rights,
            ref=self._ref,
            lines=self._lines,
            request_id=request_id,
        )
        return self._ref

    async def discard(self) -> None:
        if self._ref:
            await self._desk.rows.call(services.discard_upload, ref=self._ref)


def _check(fields: Fields) -> None:
    if not fields.choice("purpose", (_PURPOSE,)):
        raise BadRequestError("missing_field", "purpose is required", param="purpose")
    fields.end()


def _name(form: Form) -> str:
    given = form.filename
    return given if given.isprintable() and 0 < len(given) <= _LONGEST_NAME else "upload.jsonl"


def _which(argument: str) -> tuple[str, str | None]:
    """The stored file's id, or the batch's digits and which of its two outputs."""
    parts = argument.split("-")
    return (argument, None) if len(parts) == 2 else (parts[1], parts[2])


async def _file_of(desk: Desk, rights: Rights, ref: str) -> selectors.FileView:
    found = await desk.rows.call(selectors.file, client=rights.client, ref=ref)
    check_reaches(rights, found.accepted)
    return found


async def _batch(desk: Desk, rights: Rights, digits: str) -> selectors.BatchView:
    try:
        found = await desk.rows.call(selectors.batch, client=rights.client, ref=f"batch_{digits}")
    except BatchNotFoundError:
        raise FileNotStoredError from None
    check_reaches(rights, found.accepted)
    return found


async def _pieces(desk: Desk, rights: Rights, ref: str) -> AsyncIterator[bytes]:
    number = 0
    while piece := await desk.rows.call(selectors.piece, client=rights.client, ref=ref, number=number):
        yield piece
        number += 1


async def _lines(desk: Desk, rights: Rights, batch: str, *, failed: bool) -> AsyncIterator[bytes]:
    after = 0
    while rows := await desk.rows.call(selectors.output, client=rights.client, ref=batch, failed=failed, after=after):
        yield b"".join(json.dumps(_line(row), ensure_ascii=False).encode() + b"\n" for row in rows)
        after = rows[-1].line


def _line(row: selectors.Ended) -> dict[str, Any]:
    """One line of output in OpenAI's form. A line without an answer has `error`, and the status it would have had."""
    head = {"id": f"batch_req_{row.ref.removeprefix('job_')}", "custom_id": row.custom_id or None}
    request_id = f"{row.ref}.{row.attempt}"
    if row.state == "succeeded" and row.result is not None:
        body = sse.finished(row.result, at=row.finished)
        return {**head, "response": {"status_code": 200, "request_id": request_id, "body": body}, "error": None}
    told = {"code": row.code, "message": errors.say(row.code), **(row.result or {})}
    response = None
    if row.code in errors.TABLE:
        status, kind = errors.TABLE[row.code]
        error = {"message": told["message"], "type": kind, "param": told.get("param"), "code": row.code}
        response = {"status_code": status, "request_id": request_id, "body": {"error": error}}
    return {**head, "response": response, "error": told}


def _view(found: selectors.FileView) -> dict[str, Any]:
    expires = int((found.created + rules.FILE_LIFE).timestamp())
    return {**_file(found.ref, _PURPOSE, found.name, found.size, found.created), "expires_at": expires}


def _file(ref: str, purpose: str, name: str, size: int, created: Any) -> dict[str, Any]:
    return {
        "id": ref,
        "object": "file",
        "bytes": size,
        "created_at": int(created.timestamp()),
        "filename": name,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }


def _read(ref: str, rights: Rights, request_id: str) -> Entry:
    return Entry(
        at_us=now_us(),
        kind="read",
        action=Action.FILE_READ.value,
        actor=rights.client,
        outcome="ok",
        target=ref,
        request_id=request_id,
        client=rights.client,
        key_id=rights.key_id,
        end_user=rights.end_user,
    )
