"""How many at a time. Pure: counts in, verdict out.

- stat may use every slot; interactive and batch leave the reserve free for it.
- batch never holds more than half, so that a long queue of jobs leaves room for people.
- one client never holds more than half, so that one busy app leaves room for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inference.policy.catalog import Lane


@dataclass(frozen=True)
class Limits:
    """How many requests this process may have in the engine at once."""

    total: int

    @classmethod
    def share(cls, *, engine_slots: int, processes: int) -> Limits:
        """One process's share: a little more than the engine runs at once, so that it never waits for us."""
        return cls(total=max(4, (engine_slots * 3 // 2) // max(1, processes)))

    @property
    def reserve(self) -> int:
        return max(1, self.total // 8)

    @property
    def for_people_and_jobs(self) -> int:
        """What interactive and batch may use together."""
        return self.total - self.reserve

    @property
    def for_jobs(self) -> int:
        return max(1, self.total // 2)

    @property
    def per_client(self) -> int:
        return max(2, self.total // 2)


@dataclass(frozen=True)
class Load:
    """What runs in this process now."""

    by_lane: Mapping[Lane, int] = field(default_factory=dict)
    of_client: int = 0
    mean_seconds: float = 1.0

    @property
    def total(self) -> int:
        return sum(self.by_lane.values())


@dataclass(frozen=True)
class Verdict:
    """In, or not and why, and when to come back."""

    admitted: bool
    code: str = ""
    retry_after_s: int = 0


def may_admit(*, lane: Lane, load: Load, limits: Limits) -> Verdict:
    """May one more of this lane and client go to the engine now."""
    # Someone leaves, on average, after the mean time over the number running; never promise less than a second.
    wait = max(1, min(60, round(load.mean_seconds / max(1, load.total)) + 1))
    full = Verdict(admitted=False, code="queue_full", retry_after_s=wait)
    if load.total >= limits.total:
        return full
    if lane is Lane.STAT:
        return Verdict(admitted=True)
    if load.of_client >= limits.per_client:
        return Verdict(admitted=False, code="client_queue_full", retry_after_s=wait)
    if load.total - load.by_lane.get(Lane.STAT, 0) >= limits.for_people_and_jobs:
        return full
    if lane is Lane.BATCH and load.by_lane.get(Lane.BATCH, 0) >= limits.for_jobs:
        return full
    return Verdict(admitted=True)
