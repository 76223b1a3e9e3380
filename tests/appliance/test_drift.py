"""A generator's clock: learnt a step at a time from codes that counted, found again by two codes in a row, never a second use."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.accounts import rules, selectors, services
from appliance.accounts.errors import SignInRefusedError
from appliance.accounts.models import Person, TotpDevice
from appliance.accounts.services import codes
from appliance.audit import selectors as log
from tests.appliance import cast

pytestmark = pytest.mark.django_db

REAL_TIME = time.time
Move = Callable[[int], None]


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Move:
    """The clock stands in the middle of a step, so that no step ends between two lines of a test."""
    middle = REAL_TIME() // 30 * 30 + 15

    def move(steps: int) -> None:
        monkeypatch.setattr(time, "time", lambda: middle + 30 * steps)

    move(0)
    return move


def drift_of(username: str) -> int:
    return int(TotpDevice.objects.get(user__username=username).drift)


def refused(code: str) -> bool:
    try:
        services.check_code(actor="bob", code=code)
    except SignInRefusedError:
        return True
    return False


def refused_pair(one: str, two: str) -> bool:
    try:
        codes.resynchronise(actor="bob", codes=(one, two))
    except SignInRefusedError:
        return True
    return False


def test_a_clock_that_runs_away_slowly_is_followed(at_step: Move) -> None:
    bob = cast.member("bob")
    for ahead in range(rules.TOTP_DRIFT_LEARNT + 1):
        at_step(ahead * 10)
        assert not refused(bob.code(steps=ahead)), ahead
        assert drift_of("bob") == ahead
    generator = selectors.factors("bob").generator
    assert generator is not None
    assert (generator.drift, generator.off) == (timedelta(seconds=30 * rules.TOTP_DRIFT_LEARNT), True)
    assert "ahead of ours" in generator.words


def test_what_is_learnt_moves_the_window_and_does_not_widen_it(at_step: Move) -> None:
    bob = cast.member("bob")
    TotpDevice.objects.update(drift=4)
    for outside in (-1, 0, 2, 6):
        assert refused(bob.code(steps=outside)), outside
    assert not refused(bob.code(steps=5))


def test_a_code_typed_late_counts_even_after_one_that_was_early(at_step: Move) -> None:
    bob = cast.member("bob")
    assert not refused(bob.code(steps=1))
    assert drift_of("bob") == 1
    at_step(5)
    assert not refused(bob.code(steps=-1))
    assert drift_of("bob") == -1


@given(drift=st.integers(-121, 121))
def test_never_more_than_four_codes_count_and_the_one_of_the_clock_is_among_them(drift: int) -> None:
    counted = rules.offsets_that_count(drift)
    assert drift in counted
    assert len(counted) <= (4 if abs(drift) <= 1 else 3)
    assert rules.offsets_that_count(0) == range(-1, 2)


def test_single_codes_lead_no_farther_than_the_bound(at_step: Move) -> None:
    bob = cast.member("bob")
    TotpDevice.objects.update(drift=rules.TOTP_DRIFT_LEARNT)
    assert not refused(bob.code(steps=rules.TOTP_DRIFT_LEARNT + 1))
    assert drift_of("bob") == rules.TOTP_DRIFT_LEARNT
    # And the way back is open.
    at_step(10)
    assert not refused(bob.code(steps=rules.TOTP_DRIFT_LEARNT - 1))
    assert drift_of("bob") == rules.TOTP_DRIFT_LEARNT - 1


@given(known=st.integers(-121, 121), shown=st.integers(-122, 122))
def test_learning_never_goes_beyond_the_bound_or_where_two_codes_led(known: int, shown: int) -> None:
    learnt = rules.learnt_drift(known=known, shown=shown)
    assert abs(learnt) <= max(rules.TOTP_DRIFT_LEARNT, abs(known))
    assert learnt in {known, shown}


@pytest.mark.parametrize("away", [-90, 40, 100])
def test_two_codes_in_a_row_find_a_clock_far_away_and_one_code_then_opens(at_step: Move, away: int) -> None:
    bob = cast.member("bob")
    assert refused(bob.code(steps=away))
    assert not refused_pair(bob.code(steps=away), bob.code(steps=away + 1))
    assert drift_of("bob") == away + 1
    (row,) = log.search(log.Query(action="person.totp_resynchronised"), limit=5)
    assert f'"to_steps": {away + 1}' in row.detail
    at_step(2)
    assert not refused(bob.code(steps=away + 1))


def test_a_pair_counts_once_and_neither_of_its_codes_counts_again(at_step: Move) -> None:
    bob = cast.member("bob")
    first, second = bob.code(steps=40), bob.code(steps=41)
    assert not refused_pair(first, second)
    assert refused_pair(first, second)
    assert refused(second)
    assert refused(first)


def test_a_pair_with_a_code_that_was_used_is_refused(at_step: Move) -> None:
    bob = cast.member("bob")
    assert not refused(bob.code())
    assert refused_pair(bob.code(), bob.code(steps=1))
    assert not refused_pair(bob.code(steps=1), bob.code(steps=2))


@pytest.mark.parametrize("pair", [(0, 2), (1, 0), (0, 0), (200, 201), (-200, -199)])
def test_two_codes_that_are_not_in_a_row_or_too_far_away_find_nothing(at_step: Move, pair: tuple[int, int]) -> None:
    bob = cast.member("bob")
    assert refused_pair(bob.code(steps=pair[0]), bob.code(steps=pair[1]))
    assert drift_of("bob") == 0


def test_odd_digits_in_a_pair_are_refused(at_step: Move) -> None:
    bob = cast.member("bob")
    one, two = bob.code(steps=40), bob.code(steps=41)
    wide = "".join(chr(ord(digit) + 0xFEE0) for digit in two)
    assert refused_pair(one, wide)
    assert not refused_pair(one, two)


def test_wrong_pairs_count_as_failures_and_lock(at_step: Move) -> None:
    bob = cast.member("bob")
    for _ in range(10):
        assert refused_pair("000000", "000001")
    assert Person.objects.get(username="bob").locked_until is not None
    assert refused_pair(bob.code(steps=40), bob.code(steps=41))
