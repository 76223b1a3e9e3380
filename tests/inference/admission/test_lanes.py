"""Places and the line before them: who goes, who waits, who is sent away; and that no place is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import pytest

from inference.admission import rules
from inference.admission.errors import DeadlineExceededError, PressureError, QueueFullError
from inference.admission.lanes import Lanes
from inference.admission.pace import Recent
from inference.admission.place import Place
from inference.admission.rules import Limits, Pressure
from inference.engines.engine import Finish, Piece, Usage
from inference.policy.catalog import Lane

LIMITS = Limits.share(engine_slots=8, context=1000, processes=1)


def slot(
    lanes: Lanes, lane: Lane, client: str, *, tokens: int = 30, deadline: float | None = None
) -> AbstractAsyncContextManager[Place]:
    return lanes.slot(lane=lane, client=client, chars=0, max_tokens=tokens - 1, deadline=deadline)


@dataclass
class Ward:
    """Whoever asks in these tests, and the order in which they got in."""

    lanes: Lanes
    order: list[str] = field(default_factory=list)
    _ends: dict[str, asyncio.Event] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def ask(self, name: str, lane: Lane, client: str, *, tokens: int = 30) -> None:
        async def hold() -> None:
            async with slot(self.lanes, lane, client, tokens=tokens):
                self.order.append(name)
                await self._ends[name].wait()

        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(hold())
        await turn()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self._tasks.pop(name)
        await turn()

    async def leave(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.wait({self._tasks.pop(name)})
        await turn()

    async def fill(self, lane: Lane, client: str, count: int) -> list[str]:
        names = [f"{client}-{lane.value}-{number}" for number in range(count)]
        for name in names:
            await self.ask(name, lane, client)
        return names

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())


async def turn() -> None:
    """Let the loop do everything that is ready."""
    for _ in range(5):
        await asyncio.sleep(0)


def running(lanes: Lanes) -> int:
    return lanes.load().total.slots


async def test_a_slot_is_given_back_however_the_work_ends() -> None:
    lanes = Lanes(LIMITS)
    for _ in range(100):
        with pytest.raises(ValueError, match="boom"):
            async with slot(lanes, Lane.BATCH, "ward-7"):
                raise ValueError("boom")
    assert lanes.load("ward-7") == rules.Load(by_lane={Lane.BATCH: rules.Use()}, of_client=rules.Use())


async def test_a_busy_client_waits_while_another_goes_straight_in() -> None:
    ward = Ward(Lanes(LIMITS))
    await ward.fill(Lane.INTERACTIVE, "ward-7", 12)
    assert len(ward.order) == LIMITS.client.slots
    await ward.ask("other", Lane.INTERACTIVE, "ward-8")
    assert ward.order[-1] == "other"
    await ward.close()
    assert running(ward.lanes) == 0


async def test_stat_goes_before_everybody_who_waits_already() -> None:
    ward = Ward(Lanes(LIMITS))
    held = await ward.fill(Lane.STAT, "icu", 9) + await ward.fill(Lane.STAT, "er", 3)
    await ward.ask("batch", Lane.BATCH, "lab")
    await ward.ask("interactive", Lane.INTERACTIVE, "ward-7")
    await ward.ask("stat", Lane.STAT, "er")
    assert ward.order == held
    await ward.end(held[0])
    assert ward.order[12:] == ["stat"]
    await ward.end(held[1])
    await ward.end(held[2])
    assert ward.order[12:] == ["stat", "interactive", "batch"]
    await ward.close()


async def test_a_client_with_a_hundred_in_line_does_not_delay_another_ones_one() -> None:
    ward = Ward(Lanes(LIMITS))
    held = await ward.fill(Lane.INTERACTIVE, "a", 6) + await ward.fill(Lane.INTERACTIVE, "b", 5)
    await ward.fill(Lane.INTERACTIVE, "greedy", 12)
    await ward.ask("modest", Lane.INTERACTIVE, "ward-8")
    await ward.end(held[0])
    await ward.end(held[1])
    assert set(ward.order[11:]) == {"greedy-interactive-0", "modest"}
    await ward.close()


async def test_batch_that_has_aged_goes_before_people(monkeypatch: pytest.MonkeyPatch) -> None:
    async def first_of_two() -> str:
        ward = Ward(Lanes(LIMITS))
        held = await ward.fill(Lane.INTERACTIVE, "a", 6) + await ward.fill(Lane.INTERACTIVE, "b", 5)
        await ward.ask("batch", Lane.BATCH, "lab")
        await ward.ask("interactive", Lane.INTERACTIVE, "ward-7")
        await ward.end(held[0])
        await ward.close()
        return ward.order[11]

    assert await first_of_two() == "interactive"
    monkeypatch.setattr(rules, "AGES_AFTER_S", 0.0)
    assert await first_of_two() == "batch"


async def test_small_requests_do_not_overtake_a_large_one_for_ever() -> None:
    ward = Ward(Lanes(LIMITS))
    for name, client in (("a", "a"), ("b", "b")):
        await ward.ask(name, Lane.INTERACTIVE, client, tokens=3000)
    await ward.ask("large", Lane.INTERACTIVE, "c", tokens=5000)
    await ward.ask("small", Lane.INTERACTIVE, "d", tokens=10)
    assert ward.order == ["a", "b"]
    await ward.end("a")
    assert ward.order == ["a", "b"]
    await ward.end("b")
    assert ward.order == ["a", "b", "large", "small"]
    await ward.close()


async def test_when_a_large_one_leaves_the_line_the_small_one_behind_it_goes_at_once() -> None:
    ward = Ward(Lanes(LIMITS))
    await ward.ask("a", Lane.INTERACTIVE, "a", tokens=5000)
    await ward.ask("large", Lane.INTERACTIVE, "b", tokens=5000)
    await ward.ask("small", Lane.INTERACTIVE, "c", tokens=10)
    await ward.leave("large")
    assert ward.order == ["a", "small"]
    await ward.close()


async def test_a_place_given_in_the_turn_in_which_its_caller_leaves_goes_to_the_next() -> None:
    ward = Ward(Lanes(LIMITS))
    await ward.fill(Lane.STAT, "a", 9)
    await ward.fill(Lane.STAT, "b", 2)
    async with slot(ward.lanes, Lane.STAT, "b"):
        await ward.ask("leaves", Lane.STAT, "c")
        await ward.ask("stays", Lane.STAT, "d")
    # The place was given to "leaves" on the line above, and it has not run since.
    ward._tasks["leaves"].cancel()
    await turn()
    assert ward.order[11:] == ["stays"]
    await ward.close()
    assert running(ward.lanes) == 0


async def test_the_line_is_bounded_for_a_lane_and_for_a_client() -> None:
    ward = Ward(Lanes(LIMITS))
    for client in ("a", "b", "c"):
        await ward.fill(Lane.STAT, client, 10)
    with pytest.raises(QueueFullError) as refused:
        async with slot(ward.lanes, Lane.STAT, "a"):
            pass
    assert (refused.value.code, refused.value.retry_after_s >= 1) == ("client_queue_full", True)
    with pytest.raises(QueueFullError) as refused:
        async with slot(ward.lanes, Lane.STAT, "d"):
            pass
    assert refused.value.code == "queue_full"
    await ward.close()


async def test_a_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rules.WAIT_S, Lane.STAT, 0.02)
    ward = Ward(Lanes(LIMITS))
    await ward.fill(Lane.STAT, "a", 9)
    await ward.fill(Lane.STAT, "b", 3)
    with pytest.raises(QueueFullError):
        async with slot(ward.lanes, Lane.STAT, "c"):
            pass
    assert ward.lanes.gauges().lanes[Lane.STAT].waiting == 0
    await ward.close()


async def test_batch_is_turned_away_while_the_cards_are_hot_and_goes_in_when_they_have_cooled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inference.admission.lanes._LOOK_AGAIN_S", 0.01)
    felt = [Pressure.HOT]
    ward = Ward(Lanes(LIMITS, pressure=lambda: felt[0]))
    with pytest.raises(PressureError) as refused:
        async with slot(ward.lanes, Lane.BATCH, "lab"):
            pass
    assert (refused.value.code, refused.value.retry_after_s) == ("gpu_pressure", 60)
    await ward.ask("stat", Lane.STAT, "icu")
    felt[0] = Pressure.WARM
    await ward.fill(Lane.BATCH, "lab", 3)
    assert ward.order == ["stat", "lab-batch-0"]
    felt[0] = Pressure.CLEAR
    async with asyncio.timeout(5):
        while len(ward.order) < 4:
            await turn()
            await asyncio.sleep(0.005)
    await ward.close()


# --- deadlines


async def test_a_deadline_that_the_line_cannot_keep_is_refused_before_anybody_waits() -> None:
    ward = Ward(Lanes(LIMITS))
    await ward.fill(Lane.STAT, "a", 9)
    await ward.fill(Lane.STAT, "b", 3)
    ward.lanes.pace._left = Recent(now=0.0)  # nothing ever ended
    with pytest.raises(DeadlineExceededError) as refused:
        async with slot(ward.lanes, Lane.STAT, "c", deadline=time.monotonic() + 3600):
            pass
    assert (refused.value.code, refused.value.retry_after_s) == ("deadline_exceeded", 60)
    await ward.close()


async def test_a_deadline_before_the_usual_first_token_is_refused_though_there_is_room() -> None:
    lanes = Lanes(LIMITS)
    async with slot(lanes, Lane.STAT, "a", deadline=time.monotonic() + 60):
        pass
    for _ in range(20):
        lanes.pace.began(90.0, time.monotonic(), lane=Lane.STAT)
    with pytest.raises(DeadlineExceededError):
        async with slot(lanes, Lane.STAT, "a", deadline=time.monotonic() + 60):
            pass
    assert running(lanes) == 0


async def test_a_deadline_ends_a_wait() -> None:
    ward = Ward(Lanes(LIMITS))
    await ward.fill(Lane.STAT, "a", 9)
    await ward.fill(Lane.STAT, "b", 3)
    for _ in range(10_000):  # so quick lately that the wait looks short
        ward.lanes.pace.left(time.monotonic(), lane=Lane.STAT, client="a")
    with pytest.raises(DeadlineExceededError):
        async with slot(ward.lanes, Lane.STAT, "c", deadline=time.monotonic() + 0.05):
            pass
    assert ward.lanes.gauges().lanes[Lane.STAT].waiting == 0
    await ward.close()


# --- what the engine reports


@dataclass
class Generation:
    """An engine that falls silent after a word, and whether it was told to stop."""

    asked: bool = False
    closed: bool = False

    async def run(self) -> AsyncGenerator[Piece, None]:
        self.asked = True
        try:
            yield Piece("The ", Usage(11, 1))
            await asyncio.Event().wait()
        finally:
            self.closed = True


async def test_an_answer_that_is_late_is_stopped_in_the_engine() -> None:
    lanes = Lanes(LIMITS)
    generation = Generation()
    async with slot(lanes, Lane.STAT, "a", deadline=time.monotonic() + 0.05) as place:
        following = place.in_time(generation.run())
        seen = [((await anext(following)).text, generation.closed)]
        with pytest.raises(DeadlineExceededError):
            await anext(following)
    assert seen == [("The ", False)]
    assert (generation.closed, running(lanes)) == (True, 0)


async def test_nothing_is_asked_of_the_engine_when_the_deadline_has_passed_already() -> None:
    generation = Generation()
    async with slot(Lanes(LIMITS), Lane.STAT, "a", deadline=time.monotonic() + 60) as place:
        place._deadline = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            await anext(place.in_time(generation.run()))
    assert not generation.asked


async def test_the_engines_counts_correct_what_was_reserved_and_teach_what_is_usual() -> None:
    lanes = Lanes(LIMITS)
    pieces = (Piece("a", Usage(11, 1)), Piece("b", Usage(11, 600)), Piece("", Usage(11, 600), Finish.STOP))
    held = []
    async with lanes.slot(lane=Lane.STAT, client="a", chars=300, max_tokens=None) as place:
        held.append(lanes.load("a").of_client.tokens)
        for piece in pieces:
            place.saw(piece)
            held.append(lanes.load("a").of_client.tokens)
    assert held == [101 + 512, 11 + 512, 611, 611]
    assert lanes.load("a").of_client == rules.Use()
    assert lanes.pace.usual_answer(time.monotonic()) == pytest.approx(428, rel=0.05)


async def test_a_corrected_reservation_lets_the_next_one_in() -> None:
    ward = Ward(Lanes(LIMITS))
    async with slot(ward.lanes, Lane.STAT, "a", tokens=6000) as place:
        await ward.ask("next", Lane.STAT, "b", tokens=3000)
        assert ward.order == []
        ward.lanes.correct(place, rules.Use(1, 4000))
        await turn()
        assert ward.order == ["next"]
    await ward.close()


async def test_the_gauges_say_what_stands_and_name_no_client_to_the_lan() -> None:
    ward = Ward(Lanes(LIMITS))
    held = await ward.fill(Lane.INTERACTIVE, "ward-7", 11)
    await ward.end(held[0])
    gauges = ward.lanes.gauges()
    assert (gauges.lanes[Lane.INTERACTIVE].running, gauges.lanes[Lane.INTERACTIVE].waiting) == (9, 1)
    assert (gauges.clients["ward-7"].running, gauges.clients["ward-7"].waiting) == (9, 1)
    assert gauges.clients["ward-7"].per_second > 0
    assert gauges.clients["ward-7"].oldest_s == gauges.lanes[Lane.INTERACTIVE].oldest_s > 0
    assert "ward-7" not in str(gauges.as_json())
    assert gauges.as_json()["interactive"]["running"] == 9
    await ward.close()
