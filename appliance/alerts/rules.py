"""What an alert is worth and who may take it on; pure.

Whether something is wrong is decided by whoever watches it (inference.telemetry.rules for GPUs), never here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from appliance.alerts.errors import ClosedError, TakenError


class Severity(StrEnum):
    """How soon a person must look. The order of the members is the order of urgency."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the least urgent."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class Alert:
    """One fault from the moment it was seen until it was over."""

    id: int
    key: str
    severity: Severity
    title: str
    detail: str
    opened_at: datetime
    acknowledged_by: str
    acknowledged_at: datetime | None
    closed_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether the fault still stands."""
        return self.closed_at is None

    @property
    def state(self) -> str:
        """The one word a page shows."""
        if self.closed_at is not None:
            return "closed"
        return "acknowledged" if self.acknowledged_by else "open"


def check_can_acknowledge(alert: Alert, *, actor: str) -> None:
    """Refuse to take on what is over, or what somebody else has."""
    if not alert.is_open:
        raise ClosedError("this alert is closed; the fault is over")
    if alert.acknowledged_by and alert.acknowledged_by != actor:
        raise TakenError(f"{alert.acknowledged_by} has already taken this alert on")
