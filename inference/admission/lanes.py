"""The places of this process: who is in the engine now, and who stands in line for it.

What may be is decided in `rules`, in which order they stand in `line`, how fast it goes in `pace`; here are the counts,
and that each place is given back once, however its holder ends. All of it happens in one event loop, between two
awaits, so the counts are never half changed.

- A place comes with a reservation of tokens; what the engine reports corrects it.
- Whose caller leaves is out of the line at once; a place that was given to it in that very turn goes to the next.
- Each process has its share of the engine (limits / processes) and asks nobody: neither Redis nor another process is on
  a request's way, so the bounds hold when they are gone. A share that is idle here is not lent to another process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from inference.admission import rules
from inference.admission.errors import AdmissionError, DeadlineExceededError, PressureError, QueueFullError
from inference.admission.gauges import Gauge, Gauges
from inference.admission.line import Line, Waiter
from inference.admission.pace import Pace
from inference.admission.place import Place
from inference.policy.catalog import Lane

_LOOK_AGAIN_S = 1.0


def _clear() -> rules.Pressure:
    return rules.Pressure.CLEAR


class Lanes:
    """Bounded places, and before them a bounded line."""

    def __init__(self, limits: rules.Limits, *, pressure: Callable[[], rules.Pressure] = _clear) -> None:
        self.limits = limits
        self.pace = Pace(now=time.monotonic())
        self._pressure = pressure
        self._widest = {lane: limits.widest(lane) for lane in Lane}
        self._line = Line()
        self._by_lane: dict[Lane, rules.Use] = {}
        self._by_client: dict[str, rules.Use] = {}
        self._look: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def slot(
        self, *, lane: Lane, client: str, chars: int, max_tokens: int | None, deadline: float | None = None
    ) -> AsyncIterator[Place]:
        """A place for as long as the block runs; an AdmissionError when there is none in time.

        `chars` is the length of the prompt, `deadline` a time of `time.monotonic`.
        """
        answer = rules.answer_tokens(max_tokens, usual=self.pace.usual_answer(time.monotonic()))
        widest = self._widest[lane]
        need = rules.need(chars=chars, answer=answer, widest=widest)
        await self._enter(lane, client, need, deadline)
        place = Place(self, lane=lane, client=client, use=need, answer=answer, widest=widest, deadline=deadline)
        try:
            yield place
        finally:
            self._give_back(lane, client, place.use)

    def correct(self, place: Place, use: rules.Use) -> None:
        """The place holds so much from now on."""
        change = use - place.use
        place.use = use
        self._count(place.lane, place.client, change)
        if change.tokens < 0:
            self._fill()

    def too_late(self, lane: Lane, client: str) -> DeadlineExceededError:
        """The refusal for a deadline that passed, or will have."""
        return DeadlineExceededError(
            "deadline_exceeded",
            "no answer within X-Deadline-Ms; ask again after Retry-After",
            retry_after_s=self._retry_after_s(lane, client),
        )

    def load(self, client: str = "") -> rules.Load:
        return rules.Load(by_lane=dict(self._by_lane), of_client=self._by_client.get(client, rules.Use()))

    def gauges(self) -> Gauges:
        """Everything that stands here, at this moment."""
        now = time.monotonic()
        lanes = {lane: self._lane_gauge(lane, now) for lane in Lane}
        waiting = self._line.clients()
        names = self._by_client.keys() | waiting.keys() | self.pace.clients(now)
        clients = {name: self._client_gauge(name, waiting.get(name, []), now) for name in sorted(names)}
        return Gauges(lanes=lanes, clients=clients, limits=self.limits, pressure=self._pressure())

    def _lane_gauge(self, lane: Lane, now: float) -> Gauge:
        held, oldest = self._by_lane.get(lane, rules.Use()), self._line.oldest(lane)
        return Gauge(
            running=held.slots,
            tokens=held.tokens,
            waiting=self._line.count(lane),
            oldest_s=0.0 if oldest is None else now - oldest,
            per_second=self.pace.per_second(now, lane=lane),
        )

    def _client_gauge(self, client: str, waiting: list[Waiter], now: float) -> Gauge:
        held = self._by_client.get(client, rules.Use())
        return Gauge(
            running=held.slots,
            tokens=held.tokens,
            waiting=len(waiting),
            oldest_s=max((now - waiter.since for waiter in waiting), default=0.0),
            per_second=self.pace.per_second(now, client=client),
        )

    async def _enter(self, lane: Lane, client: str, need: rules.Use, deadline: float | None) -> None:
        """Return with a place taken, or raise with none."""
        now = time.monotonic()
        latest = None if deadline is None else deadline - self.pace.first_token_s(now, lane=lane)
        if latest is not None and latest <= now:
            raise self.too_late(lane, client)
        if rules.closed(lane, self.limits, self._pressure()):
            message = "the GPUs cannot take this work now; ask again after Retry-After"
            raise PressureError("gpu_pressure", message, retry_after_s=rules.PRESSURE_RETRY_S)
        if not self._line and self._verdict(lane, client, need).admitted:
            self._count(lane, client, need)
            return
        waiter = Waiter(lane, client, need, since=now)
        self._line.join(waiter)
        self._fill()
        if waiter.turn.done():
            return
        try:
            self._check_line(waiter, latest)
            await self._stand(waiter, latest)
        finally:
            # Out of the line, and whoever stood behind it may fit where it did not.
            self._line.leave(waiter)
            self._fill()

    def _check_line(self, waiter: Waiter, latest: float | None) -> None:
        """Room in the line, and a turn before the deadline by the measured rate."""
        lane, client = waiter.lane, waiter.client
        own = self._line.count(lane, client)
        if own > self.limits.in_line_of_client(lane) or self._line.count(lane) > self.limits.in_line(lane):
            raise self._full(waiter)
        if latest is not None and waiter.since + self._expected_wait_s(lane, client) > latest:
            raise self.too_late(lane, client)

    async def _stand(self, waiter: Waiter, latest: float | None) -> None:
        """Wait for the turn, no longer than the lane's wait or the deadline."""
        until = waiter.since + rules.WAIT_S[waiter.lane]
        late = latest is not None and latest < until
        wait = (latest if latest is not None and late else until) - time.monotonic()
        timer = asyncio.get_running_loop().call_later(wait, self._send_away, waiter, late)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            # The place came in the very turn in which the caller left: nobody else would give it back.
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self._give_back(waiter.lane, waiter.client, waiter.need)
            raise
        finally:
            timer.cancel()

    def _send_away(self, waiter: Waiter, late: bool) -> None:  # noqa: FBT001 - call_later passes by position
        if not waiter.turn.done():
            waiter.turn.set_exception(self.too_late(waiter.lane, waiter.client) if late else self._full(waiter))

    def _fill(self) -> None:
        """Give places to those whose turn it is, as long as there are any."""
        if not self._line:
            return
        while (waiter := self._line.next(self._judge, self._tokens_of)) is not None:
            self._line.leave(waiter)
            if not waiter.turn.done():  # one that was sent away or has left is only not yet out of the line
                waiter.turn.set_result(None)
                self._count(waiter.lane, waiter.client, waiter.need)
        # Room also comes without anybody leaving: cards cool down, batch ages.
        if self._line and self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._fill()

    def _give_back(self, lane: Lane, client: str, use: rules.Use) -> None:
        now = time.monotonic()
        self._count(lane, client, rules.Use() - use)
        self.pace.left(now, lane=lane, client=client)
        self._fill()

    def _count(self, lane: Lane, client: str, change: rules.Use) -> None:
        self.pace.held(sum(use.slots for use in self._by_lane.values()), time.monotonic())
        self._by_lane[lane] = self._by_lane.get(lane, rules.Use()) + change
        self._by_client[client] = self._by_client.get(client, rules.Use()) + change
        if not self._by_client[client].slots:
            del self._by_client[client]  # names of clients come and go; the table must not grow with them

    def _judge(self, waiter: Waiter) -> rules.Verdict:
        return self._verdict(waiter.lane, waiter.client, waiter.need)

    def _verdict(self, lane: Lane, client: str, need: rules.Use) -> rules.Verdict:
        return rules.may_admit(
            lane=lane, need=need, load=self.load(client), limits=self.limits, pressure=self._pressure()
        )

    def _tokens_of(self, client: str) -> int:
        return self._by_client.get(client, rules.Use()).tokens

    def _full(self, waiter: Waiter) -> AdmissionError:
        of_client = self._judge(waiter).held is rules.Held.CLIENT
        return QueueFullError(
            "client_queue_full" if of_client else "queue_full",
            "every place is taken; ask again after Retry-After",
            retry_after_s=self._retry_after_s(waiter.lane, waiter.client),
        )

    def _retry_after_s(self, lane: Lane, client: str) -> int:
        return rules.retry_after_s(self._expected_wait_s(lane, client))

    def _expected_wait_s(self, lane: Lane, client: str) -> float:
        """When the last one in this line gets a place, if places come free as they did lately."""
        held = self._by_client.get(client, rules.Use())
        if held.slots >= self.limits.client.slots:  # it stands behind its own requests only
            turn, running = self._line.count(lane, client), held.slots
        else:
            # A StrEnum keeps the order it is written in: the most urgent first.
            turn = sum(self._line.count(each) for each in list(Lane)[: list(Lane).index(lane) + 1])
            running = sum(use.slots for use in self._by_lane.values())
        return rules.expected_wait_s(turn=max(1, turn), running=running, per_slot=self.pace.per_slot(time.monotonic()))
