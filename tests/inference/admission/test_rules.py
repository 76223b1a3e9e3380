"""How many at a time, and whose turn it is not."""

from __future__ import annotations

import pytest

from inference.admission.errors import QueueFullError
from inference.admission.lanes import Lanes
from inference.admission.rules import Limits, Load, may_admit
from inference.policy.catalog import Lane

LIMITS = Limits(total=12)


def load(*, stat: int = 0, interactive: int = 0, batch: int = 0, mine: int = 0, mean: float = 1.0) -> Load:
    by_lane = {Lane.STAT: stat, Lane.INTERACTIVE: interactive, Lane.BATCH: batch}
    return Load(by_lane=by_lane, of_client=mine, mean_seconds=mean)


@pytest.mark.parametrize(
    ("lane", "now", "admitted"),
    [
        (Lane.STAT, load(), True),
        (Lane.STAT, load(interactive=11), True),
        (Lane.STAT, load(interactive=6, batch=5, mine=11), True),
        (Lane.STAT, load(interactive=6, batch=6), False),
        (Lane.INTERACTIVE, load(interactive=10), True),
        (Lane.INTERACTIVE, load(interactive=11), False),
        (Lane.INTERACTIVE, load(interactive=5, batch=6), False),
        (Lane.INTERACTIVE, load(interactive=5, mine=6), False),
        (Lane.INTERACTIVE, load(interactive=9, stat=1), True),
        (Lane.BATCH, load(batch=5), True),
        (Lane.BATCH, load(batch=6), False),
        (Lane.BATCH, load(interactive=11), False),
    ],
)
def test_each_lane_has_its_bound_and_stat_its_reserve(lane: Lane, now: Load, admitted: bool) -> None:
    assert may_admit(lane=lane, load=now, limits=LIMITS).admitted is admitted


def test_a_refusal_says_when_to_come_back_from_how_long_answers_take() -> None:
    quick = may_admit(lane=Lane.STAT, load=load(interactive=12, mean=0.1), limits=LIMITS)
    slow = may_admit(lane=Lane.STAT, load=load(interactive=12, mean=240.0), limits=LIMITS)
    assert quick.retry_after_s == 1
    assert slow.retry_after_s > 10
    assert may_admit(lane=Lane.STAT, load=load(interactive=12, mean=1e9), limits=LIMITS).retry_after_s == 60


@pytest.mark.parametrize(("slots", "processes", "total"), [(8, 1, 12), (8, 4, 4), (256, 4, 96), (1, 1, 4)])
def test_each_process_has_its_share_of_the_engine(slots: int, processes: int, total: int) -> None:
    assert Limits.share(engine_slots=slots, processes=processes).total == total


def test_a_slot_is_given_back_however_the_work_ends() -> None:
    lanes = Lanes(LIMITS)
    for _ in range(100):
        with pytest.raises(ValueError, match="boom"), lanes.slot(lane=Lane.BATCH, client="ward-7"):
            raise ValueError("boom")
    assert lanes.load("ward-7").total == 0


def test_one_client_cannot_take_what_others_need() -> None:
    lanes = Lanes(LIMITS)
    held = [lanes.slot(lane=Lane.INTERACTIVE, client="ward-7") for _ in range(LIMITS.per_client)]
    for slot in held:
        slot.__enter__()
    with pytest.raises(QueueFullError) as refused, lanes.slot(lane=Lane.INTERACTIVE, client="ward-7"):
        pass
    assert refused.value.code == "client_queue_full"
    with lanes.slot(lane=Lane.INTERACTIVE, client="ward-8"):
        assert lanes.load("ward-8").of_client == 1
    for slot in held:
        slot.__exit__(None, None, None)
