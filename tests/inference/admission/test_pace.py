"""How fast it goes: measured, recent, and not fooled by a quiet night."""

from __future__ import annotations

import pytest

from inference.admission.pace import Pace, Recent
from inference.policy.catalog import Lane


def busy(pace: Pace, *, start: float, seconds: float, running: int, per_second: float) -> float:
    """So many places held all the time, and so many of them given back each second."""
    now = start
    while now < start + seconds:
        now += 1 / per_second
        pace.held(running, now)
        pace.left(now, lane=Lane.INTERACTIVE, client="ward-7")
    return now


def test_the_rate_is_places_freed_per_second_and_place_held() -> None:
    pace = Pace(now=0.0)
    now = busy(pace, start=0.0, seconds=300, running=12, per_second=3.0)
    assert pace.per_slot(now) * 12 == pytest.approx(3.0, rel=0.05)
    assert pace.per_second(now, lane=Lane.INTERACTIVE) == pytest.approx(3.0, rel=0.05)
    assert pace.per_second(now, client="ward-7") == pytest.approx(3.0, rel=0.05)
    assert pace.per_second(now, lane=Lane.STAT) == 0.0
    assert pace.clients(now) == {"ward-7"}


def test_an_hour_without_requests_does_not_make_the_engine_slow() -> None:
    pace = Pace(now=0.0)
    now = busy(pace, start=0.0, seconds=300, running=12, per_second=3.0)
    pace.held(0, now + 3600)
    assert pace.per_slot(now + 3600) * 12 == pytest.approx(3.0, rel=0.1)
    assert pace.clients(now + 3600) == frozenset()
    pace.held(0, now + 1e6)
    assert pace.per_slot(now + 1e6) == 1.0  # so long ago that nothing is known: the first guess again


def test_an_engine_that_ends_nothing_is_slow_though_nothing_was_measured_to_its_end() -> None:
    pace = Pace(now=0.0)
    pace.held(12, 120.0)
    assert pace.per_slot(120.0) * 12 < 0.1


def test_a_long_hold_counts_as_many_short_ones() -> None:
    once, often = Recent(now=0.0), Recent(now=0.0)
    once.hold(3, 50.0)
    for second in range(1, 51):
        often.hold(3, float(second))
    assert once.value(50.0) == pytest.approx(often.value(50.0))


def test_one_slow_first_token_turns_nobody_away_and_many_do_until_nobody_tries_any_more() -> None:
    pace = Pace(now=0.0)
    pace.began(20.0, 0.0, lane=Lane.BATCH)
    assert pace.first_token_s(0.0, lane=Lane.BATCH) == pytest.approx(5.0)
    for second in range(60):
        pace.began(20.0, float(second), lane=Lane.BATCH)
    assert pace.first_token_s(60.0, lane=Lane.BATCH) > 15
    assert pace.first_token_s(60.0, lane=Lane.STAT) == 0
    assert pace.first_token_s(250.0, lane=Lane.BATCH) < 1


def test_the_usual_answer_is_a_guess_until_there_are_answers() -> None:
    pace = Pace(now=0.0)
    assert pace.usual_answer(0.0) == 256
    for second in range(60):
        pace.answered(10, float(second))
    assert pace.usual_answer(60.0) < 30
    assert pace.usual_answer(1e6) == 256


def test_the_table_of_clients_does_not_grow_with_their_names() -> None:
    pace = Pace(now=0.0)
    for number in range(2000):
        pace.left(10.0 * number, lane=Lane.BATCH, client=f"ward-{number}")
    assert len(pace._of_client) <= 257
