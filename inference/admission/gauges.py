"""What stands where in this process, as numbers for pages and monitors. No name of a client leaves with `as_json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.admission.rules import Limits, Pressure
from inference.policy.catalog import Lane


@dataclass(frozen=True)
class Gauge:
    """One lane's numbers, or one client's."""

    running: int = 0
    tokens: int = 0
    waiting: int = 0
    oldest_s: float = 0.0
    """How long the one that has waited longest has waited."""
    per_second: float = 0.0
    """Requests that ended, over the last half minute."""


@dataclass(frozen=True)
class Gauges:
    """All of them at one moment."""

    lanes: Mapping[Lane, Gauge]
    clients: Mapping[str, Gauge]
    limits: Limits
    pressure: Pressure

    def as_json(self) -> dict[str, Any]:
        """By lane only: who asks how much is not for everybody on the LAN."""
        lanes = {
            lane.value: {
                "running": gauge.running,
                "waiting": gauge.waiting,
                "oldest_s": round(gauge.oldest_s, 1),
                "per_second": round(gauge.per_second, 2),
            }
            for lane, gauge in self.lanes.items()
        }
        return {**lanes, "slots": self.limits.whole.slots, "pressure": self.pressure.value}
