"""`POST /v1/chat/completions`: parse, run flow B, write the answer; stop everything when the caller leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

from inference.api import document, schemas, sse
from inference.api.desk import Desk
from inference.api.exchange import CallerLeftError, Exchange
from inference.engines.engine import Piece
from inference.policy.rules import Rights
from inference.serve import Caller, Done, Opened, answer


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """The answer, streamed or whole."""
    request = schemas.chat(document.parse(await exchange.body()))
    caller = Caller(rights=rights, request_id=exchange.request_id)
    write = _stream if request.stream else _whole
    await _while_listening(exchange, caller, write(exchange, desk, request, caller))


async def _whole(exchange: Exchange, desk: Desk, request: schemas.ChatRequest, caller: Caller) -> None:
    parts: list[str] = []
    async with aclosing(answer(request.ask, caller=caller, house=desk.house)) as steps:
        async for step in steps:
            match step:
                case Piece():
                    parts.append(step.text)
                case Done():
                    await exchange.reply(200, sse.completion("".join(parts), step))


async def _stream(exchange: Exchange, desk: Desk, request: schemas.ChatRequest, caller: Caller) -> None:
    chunks: sse.Chunks | None = None
    async with aclosing(answer(request.ask, caller=caller, house=desk.house)) as steps:
        async for step in steps:
            if isinstance(step, Opened):
                chunks = sse.Chunks(step.receipt, include_usage=request.include_usage)
                continue
            if chunks is None:
                raise RuntimeError("text before the intent was on record")
            if not exchange.started:
                # Not before the engine's first word: until then a refusal can still have its own status.
                await exchange.stream()
                await exchange.event(chunks.opening())
            if isinstance(step, Done):
                await exchange.event(chunks.closing(step))
                await exchange.end()
            elif step.text:
                await exchange.event(chunks.text(step.text))


async def _while_listening(exchange: Exchange, caller: Caller, work: Coroutine[Any, Any, None]) -> None:
    """Run the work; when the caller leaves first, cancel it and wait until it has stopped and is on record."""
    running = asyncio.create_task(work)
    leaving = asyncio.create_task(exchange.left())
    try:
        await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
            return
        caller.left = "client_gone"
    finally:
        leaving.cancel()
        running.cancel()
        await asyncio.wait({running, leaving})
    raise CallerLeftError
