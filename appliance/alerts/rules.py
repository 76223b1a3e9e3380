"""What an alert is worth, who may take it on or silence it, and when its word is sent again; pure.

Whether something is wrong is decided by whoever watches it (inference.telemetry.rules for GPUs), never here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from appliance.alerts.errors import ClosedError, SilenceError, TakenError

LONGEST_SILENCE = timedelta(days=7)
# 5 s, 15 s, 45 s ... ten minutes: about an hour and a half in all, longer than a mail server's restart.
MOST_TRIES = 15
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=10)
# A channel that failed this often in a row is dead until it takes something again.
DEAD_AFTER = 3
CHANNEL = "alerts.channel."
_ODD = re.compile(r"[^\x20-\x7e\u00a0-\uffff]+")


class Delivered(StrEnum):
    """How a delivery stands."""

    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given_up"
    DROPPED = "dropped"


class Event(StrEnum):
    """What about an alert is told."""

    OPENED = "opened"
    WORSENED = "worsened"
    CLOSED = "closed"
    TEST = "test"


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


def check_can_silence(alert: Alert, *, reason: str, hours: int) -> None:
    """Refuse a silence about what is over, without a reason, or without an end within a week."""
    if not alert.is_open:
        raise ClosedError("this alert is closed; there is nothing to silence")
    if not reason.strip():
        raise SilenceError("say why nobody should be told")
    if not timedelta(0) < timedelta(hours=hours) <= LONGEST_SILENCE:
        raise SilenceError("a silence ends after 1 to 168 hours")


def wait_before(tries: int) -> timedelta:
    """How long until the next try, after so many."""
    seconds = _FIRST_WAIT.total_seconds() * 3.0 ** max(0, tries - 1)
    return min(timedelta(seconds=seconds), _LONGEST_WAIT)


def is_told(*, key: str, severity: Severity, channel: str, least: str) -> bool:
    """Whether a channel tells of this fault: urgent enough, and not about the channel itself, which cannot say it."""
    return severity.rank >= Severity(least).rank and key != CHANNEL + channel


@dataclass(frozen=True)
class Message:
    """One thing to say about one alert."""

    ref: str
    event: str
    key: str
    severity: str
    title: str
    detail: str
    at: datetime
    box: str
    serial: str

    @property
    def line(self) -> str:
        """All of it in one line without a control character."""
        return plain(f"[{self.event}] {self.title}. {self.detail} ({self.key}, {self.box}, serial {self.serial})")

    def as_json(self) -> bytes:
        """The same for a program."""
        alert = {"key": self.key, "severity": self.severity, "title": self.title, "detail": self.detail}
        told = {
            "id": self.ref,
            "object": "event",
            "type": f"alert.{self.event}",
            "created_at": int(self.at.timestamp()),
        }
        return json.dumps({**told, "data": {**alert, "box": self.box, "serial": self.serial}}).encode()


def plain(text: str) -> str:
    """Without anything that could begin another line or another header."""
    return _ODD.sub(" ", text).strip()
