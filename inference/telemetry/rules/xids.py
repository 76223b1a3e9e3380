"""The driver's own fault reports: what each XID means and which kind of fault it is; pure.

From NVIDIA's "XID Errors" and its Xid catalog (docs.nvidia.com/deploy/xid-errors), "GPU Debug Guidelines"
(docs.nvidia.com/deploy/gpu-debug-guidelines) and "GPU Memory Error Management"
(docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt). The same number means the same in every driver. One that is not in the
table is `unknown`: it is shown and rings, for what nobody knows is not well.

One fault is told twice, by NVML's event and by the kernel log. Two reports are one event when card and number are the
same, they came within five seconds, and each from a source of its own: two lines of the log are two faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from appliance.alerts.rules import Severity

SAME_WITHIN = timedelta(seconds=5)
_PCI = re.compile(r"(?:PCI:)?([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})(?:\.[0-9])?")


class FaultClass(StrEnum):
    """What kind of fault it is; the policy has one line for each."""

    APPLICATION = "application"
    CONTAINED_MEMORY = "contained_memory"
    UNCORRECTED_MEMORY = "uncorrected_memory"
    MEMORY_REPAIR = "memory_repair"
    MEMORY_WORN = "memory_worn"
    CHANNEL = "channel"
    FIRMWARE = "firmware"
    NVLINK = "nvlink"
    LINK_ERRORS = "link_errors"
    BUS = "bus"
    HEAT = "heat"
    UNKNOWN = "unknown"

    @property
    def label(self) -> str:
        """For people."""
        return _LABELS[self]

    @property
    def severity(self) -> Severity:
        """How soon a person must look, whatever the policy does."""
        if self is FaultClass.APPLICATION:
            return Severity.INFO
        return Severity.CRITICAL if self in _CRITICAL else Severity.WARNING


_LABELS = {
    FaultClass.APPLICATION: "A program's own fault",
    FaultClass.CONTAINED_MEMORY: "Memory error, contained",
    FaultClass.UNCORRECTED_MEMORY: "Memory error, not contained",
    FaultClass.MEMORY_REPAIR: "Memory repair waits for a reset",
    FaultClass.MEMORY_WORN: "Memory cannot be repaired",
    FaultClass.CHANNEL: "Work on the card got stuck",
    FaultClass.FIRMWARE: "The card's own processor failed",
    FaultClass.NVLINK: "NVLink failed",
    FaultClass.LINK_ERRORS: "Errors on a link are rising",
    FaultClass.BUS: "The card fell off the bus",
    FaultClass.HEAT: "Heat or power",
    FaultClass.UNKNOWN: "A fault this version does not know",
}
_CRITICAL = {
    FaultClass.UNCORRECTED_MEMORY,
    FaultClass.MEMORY_WORN,
    FaultClass.FIRMWARE,
    FaultClass.NVLINK,
    FaultClass.BUS,
}

# number: what the driver means by it, and its kind
_XIDS: dict[int, tuple[str, FaultClass]] = {
    8: ("The GPU stopped processing", FaultClass.CHANNEL),
    13: ("A program made the graphics engine fail", FaultClass.APPLICATION),
    31: ("A program touched memory that is not its own", FaultClass.APPLICATION),
    32: ("A damaged command stream", FaultClass.CHANNEL),
    38: ("The driver's firmware failed", FaultClass.FIRMWARE),
    43: ("A program was stopped on the GPU", FaultClass.APPLICATION),
    45: ("Work was cleared away after an earlier fault", FaultClass.APPLICATION),
    46: ("The GPU stopped processing", FaultClass.FIRMWARE),
    48: ("A memory error of two bits", FaultClass.UNCORRECTED_MEMORY),
    61: ("The card's own controller stopped with a warning", FaultClass.FIRMWARE),
    62: ("The card's own controller stopped", FaultClass.FIRMWARE),
    63: ("A part of the memory was put aside and is replaced at the next reset", FaultClass.MEMORY_REPAIR),
    64: ("A part of the memory failed and could not be replaced", FaultClass.MEMORY_WORN),
    69: ("A program gave the graphics engine a wrong command", FaultClass.APPLICATION),
    74: ("NVLink reported an error", FaultClass.NVLINK),
    79: ("The GPU has fallen off the bus", FaultClass.BUS),
    92: ("Corrected memory errors are frequent", FaultClass.MEMORY_REPAIR),
    94: ("A memory error that was contained: one program lost its data", FaultClass.CONTAINED_MEMORY),
    95: ("A memory error that was not contained", FaultClass.UNCORRECTED_MEMORY),
    109: ("Switching between programs took too long", FaultClass.CHANNEL),
    119: ("The card's own processor does not answer the driver", FaultClass.FIRMWARE),
    120: ("The card's own processor failed", FaultClass.FIRMWARE),
    140: ("A memory error that was not repaired", FaultClass.UNCORRECTED_MEMORY),
    143: ("The GPU could not be started", FaultClass.FIRMWARE),
}


class Source(StrEnum):
    """Who told of it."""

    DRIVER = "driver"
    KERNEL = "kernel"


@dataclass(frozen=True)
class Report:
    """One XID as one source told it; `place` is the card's bus address, `token` the log record's own number."""

    xid: int
    place: str
    at: datetime
    source: Source
    token: str = ""


@dataclass(frozen=True)
class Event:
    """One fault, by whomever it was told, until somebody has looked at it."""

    id: int
    xid: int
    place: str
    uuid: str
    at: datetime
    sources: frozenset[Source]
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None

    @property
    def meaning(self) -> str:
        return describe(self.xid)[0]

    @property
    def fault(self) -> FaultClass:
        return describe(self.xid)[1]

    @property
    def key(self) -> str:
        """The alert's: one for each number and card, however often it comes."""
        return f"gpu.xid.{self.xid}.{self.uuid or self.place}"


def describe(xid: int) -> tuple[str, FaultClass]:
    """What the number means, in words, and its kind."""
    return _XIDS.get(xid, ("A fault report this version does not know", FaultClass.UNKNOWN))


def pci_place(text: str) -> str:
    """A bus address as everybody can compare it: NVML writes 00000000:3B:00.0, the kernel PCI:0000:3b:00."""
    match = _PCI.fullmatch(text)
    return f"{int(match[1], 16):04x}:{match[2]}:{match[3]}".lower() if match else ""


def same(report: Report, events: Iterable[Event]) -> Event | None:
    """The event that this report is the second word on; None when it is news."""
    for event in events:
        near = abs(event.at - report.at) <= SAME_WITHIN
        if near and event.xid == report.xid and event.place == report.place and report.source not in event.sources:
            return event
    return None
