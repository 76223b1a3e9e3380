"""The stand-in engine with a number of slots, filled as vLLM fills its own: by priority, then by arrival.

What has started goes on until the test ends it, so an order of events can be told without a clock.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial

from tests.simulators.engine import Behaviour, EngineStandIn, Seen


@dataclass
class SlottedEngine(EngineStandIn):
    """`started` is in the order in which requests got a slot."""

    slots: int = 4
    started: list[Seen] = field(default_factory=list)
    _running: int = 0
    _waiting: list[tuple[int, int, asyncio.Event]] = field(default_factory=list)
    _permits: int = 0
    _permitted: asyncio.Condition = field(default_factory=asyncio.Condition)

    def permit(self, count: int) -> None:
        """Let so many of those that started come to their end, whichever."""

        async def more() -> None:
            async with self._permitted:
                self._permits += count
                self._permitted.notify_all()

        asyncio.run_coroutine_threadsafe(more(), self._loop).result(5)

    def _behaviour(self, seen: Seen) -> Behaviour:
        return partial(self._in_a_slot, seen=seen, then=super()._behaviour(seen))

    async def _in_a_slot(self, writer: asyncio.StreamWriter, *, seen: Seen, then: Behaviour) -> None:
        turn = (seen.fields["priority"], len(self.seen), asyncio.Event())
        self._waiting.append(turn)
        self._start_next()
        try:
            await turn[2].wait()
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self._end_one()
            raise
        self.started.append(seen)
        try:
            async with self._permitted:
                await self._permitted.wait_for(lambda: self._permits > 0)
                self._permits -= 1
            await then(writer)
        finally:
            self._end_one()

    def _start_next(self) -> None:
        while self._waiting and self._running < self.slots:
            self._waiting.sort(key=lambda turn: turn[:2])
            self._running += 1
            self._waiting.pop(0)[2].set()

    def _end_one(self) -> None:
        self._running -= 1
        self._start_next()
