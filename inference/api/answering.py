"""What every door that answers does alike: names the caller, listens while it works, gathers a whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from inference.admission.errors import StaleError
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
    """Do the work; when the caller leaves first, stop it, and return once it has stopped and is on record.

    Rights are asked at each piece of an answer. An engine that says nothing has no pieces, so they are asked here too.
    """
    stop = _Stop(exchange, desk, caller)
    try:
        await work
    except asyncio.CancelledError:
        if stop.why is None or stop.task.uncancel() > 0:
            raise
        raise stop.why from None
    finally:
        stop.close()


class _Stop:
    """What may end the work before it is done. It runs in the caller's own task: a second one would cost more than it."""

    def __init__(self, exchange: Exchange, desk: Desk, caller: Caller) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an exchange is answered in a task")
        self.task = task
        self.why: Exception | None = None
        self._desk = desk
        self._caller = caller
        exchange.when_left = self._gone  # a reader that stalls is found out in the middle of the work
        self._leaving = asyncio.create_task(exchange.left())
        self._leaving.add_done_callback(self._left)
        self._loop = asyncio.get_running_loop()
        self._again = self._loop.call_later(_ASK_AGAIN_S, self._ask_again)

    def close(self) -> None:
        self._again.cancel()
        self._leaving.cancel()

    def _gone(self) -> None:
        self._caller.left = "client_gone"

    def _left(self, leaving: asyncio.Task[None]) -> None:
        if not leaving.cancelled() and self.why is None:
            self._gone()
            self._end(CallerLeftError())

    def _ask_again(self) -> None:
        try:
            self._desk.standing.check_still(self._caller.rights)
        except (PolicyRefusal, StaleError) as refusal:
            self._caller.left = refusal.code
            self._end(refusal)
        else:
            self._again = self._loop.call_later(_ASK_AGAIN_S, self._ask_again)

    def _end(self, why: Exception) -> None:
        self.why = why
        self.task.cancel()
