"""The slots of this process: who is in the engine now. Whether one more may be is `rules`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from inference.admission import rules
from inference.admission.errors import QueueFullError
from inference.policy.catalog import Lane


class Lanes:
    """Bounded, and without a queue of its own: what waits, waits in the engine by priority, or in PostgreSQL."""

    def __init__(self, limits: rules.Limits) -> None:
        self._limits = limits
        self._by_lane: Counter[Lane] = Counter()
        self._by_client: Counter[str] = Counter()
        self._mean_seconds = 1.0

    @contextmanager
    def slot(self, *, lane: Lane, client: str) -> Iterator[None]:
        """Hold one slot for as long as the block runs; QueueFullError when there is none."""
        verdict = rules.may_admit(lane=lane, load=self.load(client), limits=self._limits)
        if not verdict.admitted:
            raise QueueFullError(
                verdict.code, "every place is taken; ask again after Retry-After", retry_after_s=verdict.retry_after_s
            )
        self._by_lane[lane] += 1
        self._by_client[client] += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._by_lane[lane] -= 1
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]  # names of clients come and go; the table must not grow with them
            self._mean_seconds += 0.1 * (time.monotonic() - began - self._mean_seconds)

    def load(self, client: str = "") -> rules.Load:
        return rules.Load(
            by_lane=dict(self._by_lane), of_client=self._by_client[client], mean_seconds=self._mean_seconds
        )
