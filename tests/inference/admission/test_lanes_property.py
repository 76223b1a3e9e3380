"""Random arrivals, ends, departures and corrections: no place is lost, no bound is passed, nobody is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.admission import rules
from inference.admission.errors import AdmissionError
from inference.admission.lanes import Lanes
from inference.admission.place import Place
from inference.admission.rules import Limits, Pressure
from inference.policy.catalog import Lane

LIMITS = Limits.share(engine_slots=2, context=100, processes=1)

tokens = st.sampled_from([5, 60, 150, 400])
which = st.integers(0, 5)
# How many turns the loop makes after an act: none and one are where acts meet; after all of them the counts are checked.
ALL = 10
turns = st.sampled_from([0, 0, 1, 1, ALL, ALL])
arrive = st.tuples(st.just("arrive"), st.sampled_from(Lane), st.sampled_from("abc"), tokens, turns)
other = st.tuples(st.sampled_from(["end", "stop", "leave", "correct"]), which, tokens, turns)
pressure = st.tuples(st.just("pressure"), st.sampled_from(Pressure), turns)
steps = st.lists(st.one_of(arrive, arrive, arrive, other, other, pressure), max_size=60)


@dataclass(eq=False)
class Request:
    """One request of the test, and how far it got."""

    end: asyncio.Event = field(default_factory=asyncio.Event)
    place: Place | None = None
    inside: bool = False

    async def run(self, lanes: Lanes, lane: Lane, client: str, tokens: int) -> None:
        async with lanes.slot(lane=lane, client=client, chars=0, max_tokens=tokens) as self.place:
            self.inside = True
            try:
                await self.end.wait()
            finally:
                self.inside = False


class World:
    """The lanes and everybody who asks."""

    def __init__(self) -> None:
        self.pressure = Pressure.CLEAR
        self.lanes = Lanes(LIMITS, pressure=lambda: self.pressure)
        self.there: dict[Request, asyncio.Task[None]] = {}

    async def act(self, step: tuple[object, ...]) -> None:
        match step:
            case ("arrive", Lane() as lane, str() as client, int() as tokens, _):
                request = Request()
                self.there[request] = asyncio.create_task(request.run(self.lanes, lane, client, tokens))
            case ("pressure", Pressure() as found, _):
                self.pressure = found
                self.lanes._fill()
            case (str() as what, int() as which, int() as tokens, _):
                self.to(what, which, tokens)
        self.check_slots()
        if step[-1] == ALL:
            await self.settle()
            self.check_settled()
        elif step[-1]:
            await asyncio.sleep(0)

    def to(self, what: str, which: int, tokens: int) -> None:
        """`leave` is for one who waits, the others for one who is in."""
        those = [request for request in self.there if request.inside is (what != "leave")]
        if not those:
            return
        request = those[which % len(those)]
        if what == "end":
            request.end.set()
        elif what in {"stop", "leave"}:
            self.there[request].cancel()
        elif request.place is not None:
            self.lanes.correct(request.place, rules.Use(1, tokens))

    async def settle(self) -> None:
        for _ in range(ALL):
            await asyncio.sleep(0)
        for request, task in list(self.there.items()):
            if task.done():
                with contextlib.suppress(AdmissionError, asyncio.CancelledError):
                    task.result()
                del self.there[request]

    def check_slots(self) -> None:
        """At any moment, whatever is under way."""
        load = self.lanes.load()
        assert load.total.slots <= LIMITS.whole.slots
        assert load.total.slots - load.of(Lane.STAT).slots <= LIMITS.people_and_jobs.slots
        assert load.of(Lane.BATCH).slots <= LIMITS.jobs.slots
        assert all(self.lanes.load(client).of_client.slots <= LIMITS.client.slots for client in "abc")

    def check_settled(self) -> None:
        """What is counted is what is there, and whoever waits waits for a reason."""
        inside = [request.place for request in self.there if request.inside and request.place]
        assert self.lanes.load().total == sum((place.use for place in inside), rules.Use())
        for client in "abc":
            own = sum((place.use for place in inside if place.client == client), rules.Use())
            assert self.lanes.load(client).of_client == own
        gauges = self.lanes.gauges().lanes.values()
        assert sum(gauge.waiting for gauge in gauges) == len(self.there) - len(inside)
        assert self.lanes._line.next(self.lanes._judge, self.lanes._tokens_of) is None


@settings(max_examples=400, deadline=None)
@given(steps)
def test_no_place_is_lost_and_nobody_who_waits_is_forgotten(steps: list[tuple[object, ...]]) -> None:
    async def live() -> None:
        world = World()
        for step in steps:
            await world.act(step)
        # The cards cool, those inside come to their end one by one: everybody who waits gets in and out.
        world.pressure = Pressure.CLEAR
        world.lanes._fill()
        for _ in range(len(steps) + 1):
            await world.settle()
            world.check_settled()
            for request in world.there:
                if request.inside:
                    request.end.set()
                    break
        await world.settle()
        assert world.there == {}
        assert world.lanes.load().total == rules.Use()
        assert world.lanes._by_client == {}

    asyncio.run(live())
