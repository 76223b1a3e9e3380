"""Reads of the GPUs' pulse and faults, for pages, for admission and for the supervisor."""

from inference.telemetry.selectors.cards import CardView, Sampler, card, cards, known, one, sampler
from inference.telemetry.selectors.faults import (
    Capacity,
    PolicyLine,
    Restart,
    blocking_faults,
    capacity,
    events,
    events_near,
    open_events,
    policy,
    policy_lines,
    restarts,
)
from inference.telemetry.selectors.history import WINDOWS, Point, Spread, Window, history

__all__ = [
    "WINDOWS",
    "Capacity",
    "CardView",
    "Point",
    "PolicyLine",
    "Restart",
    "Sampler",
    "Spread",
    "Window",
    "blocking_faults",
    "capacity",
    "card",
    "cards",
    "events",
    "events_near",
    "history",
    "known",
    "one",
    "open_events",
    "policy",
    "policy_lines",
    "restarts",
    "sampler",
]
