"""Reads of the alert ledger and of what was told of it."""

from appliance.alerts.selectors.alerts import alert, recent, standing, standing_keys, value
from appliance.alerts.selectors.telling import (
    AttemptRow,
    ChannelView,
    DeliveryRow,
    SilenceRow,
    channels,
    deliveries,
    failures_in_a_row,
    message,
    silenced_until,
    silences,
)

__all__ = [
    "AttemptRow",
    "ChannelView",
    "DeliveryRow",
    "SilenceRow",
    "alert",
    "channels",
    "deliveries",
    "failures_in_a_row",
    "message",
    "recent",
    "silenced_until",
    "silences",
    "standing",
    "standing_keys",
    "value",
]
