"""Writes of what the sampler saw and of what follows from it. Callers use `telemetry.<verb>`."""

from inference.telemetry.services.faults import (
    acknowledge_event,
    act,
    hear,
    propose_policy,
    requalify,
    restarted,
    set_policy,
    settle,
)
from inference.telemetry.services.samples import beat, keep_health, prune, roll_up, store, watch_sampler

__all__ = [
    "acknowledge_event",
    "act",
    "beat",
    "hear",
    "keep_health",
    "propose_policy",
    "prune",
    "requalify",
    "restarted",
    "roll_up",
    "set_policy",
    "settle",
    "store",
    "watch_sampler",
]
