"""How much at a time, whose turn it is, and when to come back."""

from __future__ import annotations

import math

import pytest

from inference.admission.rules import (
    Capacity,
    Held,
    Limits,
    Load,
    Pressure,
    Use,
    answer_tokens,
    closed,
    corrected,
    expected_wait_s,
    may_admit,
    need,
    retry_after_s,
    turns,
)
from inference.policy.catalog import Lane

LIMITS = Limits.share(engine_slots=8, context=1000, processes=1)
ONE = Use(1, 100)


def load(*, stat: int = 0, interactive: int = 0, batch: int = 0, mine: int = 0) -> Load:
    counts = {Lane.STAT: stat, Lane.INTERACTIVE: interactive, Lane.BATCH: batch}
    return Load(by_lane={lane: Use(count, 100 * count) for lane, count in counts.items()}, of_client=Use(mine))


@pytest.mark.parametrize(
    ("lane", "now", "held"),
    [
        (Lane.STAT, load(), Held.NOBODY),
        (Lane.STAT, load(interactive=11), Held.NOBODY),
        (Lane.STAT, load(interactive=6, batch=5, mine=8), Held.NOBODY),
        (Lane.STAT, load(stat=9, mine=9), Held.CLIENT),
        (Lane.STAT, load(interactive=6, batch=6), Held.ALL),
        (Lane.INTERACTIVE, load(interactive=10), Held.NOBODY),
        (Lane.INTERACTIVE, load(interactive=11), Held.ALL),
        (Lane.INTERACTIVE, load(interactive=5, batch=6), Held.ALL),
        (Lane.INTERACTIVE, load(interactive=9, mine=9), Held.CLIENT),
        (Lane.INTERACTIVE, load(interactive=9, stat=1), Held.NOBODY),
        (Lane.BATCH, load(batch=5), Held.NOBODY),
        (Lane.BATCH, load(batch=6), Held.LANE),
        (Lane.BATCH, load(interactive=11), Held.ALL),
    ],
)
def test_each_lane_has_its_bound_and_stat_its_reserve(lane: Lane, now: Load, held: Held) -> None:
    assert may_admit(lane=lane, need=ONE, load=now, limits=LIMITS).held is held


@pytest.mark.parametrize(
    ("lane", "tokens", "held"),
    [
        (Lane.STAT, 8000, Held.ALL),
        (Lane.STAT, 7900, Held.NOBODY),
        (Lane.INTERACTIVE, 6901, Held.ALL),
        (Lane.INTERACTIVE, 6900, Held.NOBODY),
        (Lane.BATCH, 3901, Held.LANE),
        (Lane.BATCH, 3900, Held.NOBODY),
    ],
)
def test_tokens_are_bounded_as_places_are(lane: Lane, tokens: int, held: Held) -> None:
    now = Load(by_lane={lane: Use(2, tokens)}, of_client=Use(1, 100))
    assert may_admit(lane=lane, need=ONE, load=now, limits=LIMITS).held is held


def test_one_client_has_its_own_bound_of_tokens() -> None:
    now = Load(by_lane={Lane.STAT: Use(2, 5901)}, of_client=Use(2, 5901))
    assert may_admit(lane=Lane.STAT, need=ONE, load=now, limits=LIMITS).held is Held.CLIENT


@pytest.mark.parametrize(("slots", "processes", "total"), [(8, 1, 12), (8, 4, 4), (256, 4, 96), (1, 1, 4)])
def test_each_process_has_its_share_of_the_engine(slots: int, processes: int, total: int) -> None:
    limits = Limits.share(engine_slots=slots, context=1000, processes=processes)
    assert limits.whole.slots == total
    assert limits.people_and_jobs.slots < total


@pytest.mark.parametrize("slots", [1, 8, 64, 256])
def test_a_client_that_is_alone_and_a_queue_without_people_fill_the_engine(slots: int) -> None:
    assert Limits.share(engine_slots=slots, context=1000, processes=1).client.slots >= slots
    assert Limits.share(engine_slots=slots, context=1000, processes=1).whole.tokens >= slots * 1000
    assert 1.25 * slots + 1 >= Limits.of_queue(engine_slots=slots, context=1000, processes=1).jobs.slots >= slots


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("limits", [LIMITS, Limits.of_queue(engine_slots=1, context=128, processes=1)])
def test_the_widest_request_gets_in_when_nobody_else_is(lane: Lane, limits: Limits) -> None:
    wide = need(chars=10_000_000, answer=1_000_000, widest=limits.widest(lane))
    assert may_admit(lane=lane, need=wide, load=Load(), limits=limits).admitted


def test_a_request_reserves_its_prompt_and_the_answer_it_asks_for_or_twice_the_usual() -> None:
    assert answer_tokens(50, usual=400.0) == 50
    assert answer_tokens(None, usual=100.2) == 201
    assert need(chars=300, answer=50, widest=6000) == Use(1, 151)


def test_what_is_counted_replaces_what_was_guessed_and_never_hides_what_is_there() -> None:
    def tokens(prompt: int, answer: int, written: int) -> int:
        use = corrected(prompt=prompt, answer=answer, written=written, widest=6000)
        return use.tokens

    assert tokens(80, 50, 0) == 130
    assert tokens(80, 50, 60) == 140
    assert tokens(5000, 4000, 0) == 6000
    assert tokens(5990, 4000, 30) == 6020


@pytest.mark.parametrize(
    ("pressure", "interactive", "batch"),
    [(Pressure.CLEAR, 11, 6), (Pressure.BLIND, 11, 1), (Pressure.WARM, 11, 1), (Pressure.HOT, 5, 0)],
)
def test_hot_cards_cost_batch_its_places_first_then_people_and_never_stat(
    pressure: Pressure, interactive: int, batch: int
) -> None:
    def room(lane: Lane) -> int:
        fits = (may_admit(lane=lane, need=ONE, load=now, limits=LIMITS, pressure=pressure) for now in loads(lane))
        return sum(verdict.admitted for verdict in fits)

    def loads(lane: Lane) -> list[Load]:
        return [Load(by_lane={lane: Use(count, 0)}) for count in range(20)]

    assert (room(Lane.STAT), room(Lane.INTERACTIVE), room(Lane.BATCH)) == (12, interactive, batch)
    assert [closed(lane, LIMITS, pressure) for lane in Lane] == [False, False, batch == 0]


def test_stat_is_first_and_batch_comes_before_people_only_when_it_has_aged() -> None:
    assert turns({Lane.BATCH: 0.0, Lane.INTERACTIVE: 9.0, Lane.STAT: 99.0}) == [
        Lane.STAT, Lane.INTERACTIVE, Lane.BATCH,
    ]  # fmt: skip
    assert turns({Lane.INTERACTIVE: 11.0, Lane.BATCH: 0.0}) == [Lane.BATCH, Lane.INTERACTIVE]
    assert turns({}) == []


def test_a_wait_is_what_stands_before_one_at_the_rate_places_came_free() -> None:
    assert expected_wait_s(turn=6, running=12, per_slot=0.25) == 2.0
    assert expected_wait_s(turn=1, running=0, per_slot=0.5) == 2.0
    assert expected_wait_s(turn=1, running=12, per_slot=0.0) == math.inf


@pytest.mark.parametrize(("wait", "header"), [(0.0, 1), (0.2, 1), (1.1, 2), (59.5, 60), (1e9, 60), (math.inf, 60)])
def test_retry_after_is_whole_seconds_between_one_and_sixty(wait: float, header: int) -> None:
    assert retry_after_s(wait) == header


@pytest.mark.parametrize("lane", list(Lane))
def test_an_engine_on_a_held_card_gets_nothing_new_whatever_the_lane(lane: Lane) -> None:
    assert closed(lane, LIMITS, Pressure.HELD)
    assert may_admit(lane=lane, need=ONE, load=load(), limits=LIMITS, pressure=Pressure.HELD).held is Held.ALL
    assert may_admit(lane=Lane.STAT, need=ONE, load=load(), limits=LIMITS, pressure=Pressure.HOT).admitted


def test_pressure_in_the_one_word_that_answers_carry() -> None:
    words = {pressure: Capacity.under(pressure).value for pressure in Pressure}
    assert words == {
        Pressure.CLEAR: "full", Pressure.BLIND: "reduced", Pressure.WARM: "reduced", Pressure.HOT: "reduced",
        Pressure.HELD: "none",
    }  # fmt: skip
