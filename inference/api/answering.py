"""What every door that answers does alike: names the caller, listens while it works, gathers a whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from inference.api import deadline
from inference.api.desk import Desk
from inference.api.exchange import CallerLeftError, Exchange
from inference.engines.engine import Piece
from inference.policy.ask import Ask
from inference.policy.errors import PolicyRefusal
from inference.policy.rules import Rights
from inference.serve import Caller, Done, answer

_ASK_AGAIN_S = 2.0


@dataclass(frozen=True)
class Whole:
    """A finished answer: what came, in order, and how it ended."""

    pieces: tuple[Piece, ...]
    done: Done

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def caller_of(exchange: Exchange, rights: Rights) -> Caller:
    """Whom the answer is for. Asked before the body is read: what the headers say of the waiting counts from there."""
    return Caller(rights=rights, request_id=exchange.request_id, deadline=deadline.of(exchange))


async def whole(ask: Ask, *, caller: Caller, desk: Desk) -> Whole:
    """Run flow B to its end, or one of its refusals."""
    pieces: list[Piece] = []
    done: Done | None = None
    async with aclosing(answer(ask, caller=caller, house=desk.house)) as steps:
        async for step in steps:
            match step:
                case Piece():
                    pieces.append(step)
                case Done():
                    done = step
    if done is None:
        raise RuntimeError("an answer ended without its end")
    return Whole(tuple(pieces), done)


async def while_listening(exchange: Exchange, desk: Desk, caller: Caller, work: Coroutine[Any, Any, None]) -> None:
    """Run the work; when the caller leaves first, cancel it and wait until it has stopped and is on record.

    Rights are asked at each piece of an answer. An engine that says nothing has no pieces, so they are asked here too.
    """

    def gone() -> None:
        caller.left = "client_gone"

    exchange.when_left = gone  # a reader that stalls is found out in the middle of the work
    running = asyncio.create_task(work)
    leaving = asyncio.create_task(exchange.left())
    both = {running, leaving}
    try:
        while not (await asyncio.wait(both, timeout=_ASK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED))[0]:
            desk.standing.check_still(caller.rights)
        if running.done():
            await running
            return
        gone()
    except PolicyRefusal as refusal:
        if not running.done():
            caller.left = refusal.code
        raise
    finally:
        leaving.cancel()
        running.cancel()
        await asyncio.wait(both)
    raise CallerLeftError
