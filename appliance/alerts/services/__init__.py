"""Writes of the alert ledger and of what is told of it. Callers use `alerts.<verb>`."""

from appliance.alerts.services.alerts import acknowledge, close, open_, silence
from appliance.alerts.services.telling import due, forget, settle_delivery

__all__ = ["acknowledge", "close", "due", "forget", "open_", "settle_delivery", "silence"]
