"""What is done about a fault: the policy, one line for each kind of fault, and what it makes of a card; pure.

The lines a box comes with follow NVIDIA's recommended actions (see xids) and what large sites publish of theirs: faults of a
program touch no card (Meta, "The Llama 3 Herd of Models", 2024, 3.3.4; Cui et al., "Story of Two GPUs", 2025), an error
that was contained costs the engine a restart, one that was not costs the card its work until somebody has looked.
A change with its approvals may set another action for a kind of fault; nothing else does.

- ignore: no action. The alert opens all the same, but for a program's own fault.
- restart: the engine is started again, once for each event.
- drain: no new work to the engine on that card, until the fault is over.
- quarantine: the same, until a person requalifies the card.
- call vendor: quarantine, and the alert says what to tell them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from appliance.alerts.rules import Severity
from inference.telemetry.errors import NotWellError
from inference.telemetry.rules.cards import SILENT_AFTER, Card, Finding, Health, Reading
from inference.telemetry.rules.xids import Event, FaultClass, describe


class Action(StrEnum):
    """What is done about a fault, the mildest first."""

    IGNORE = "ignore"
    RESTART = "restart"
    DRAIN = "drain"
    QUARANTINE = "quarantine"
    CALL_VENDOR = "call_vendor"

    @property
    def label(self) -> str:
        """For people."""
        return self.value.replace("_", " ").capitalize()

    @property
    def rank(self) -> int:
        """0 for the mildest."""
        return list(Action).index(self)


class Hold(StrEnum):
    """What keeps work from a card."""

    NONE = ""
    DRAINED = "drained"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Line:
    """One line of the policy: what is done, and why."""

    action: Action
    reason: str


DEFAULTS: Mapping[FaultClass, Line] = {
    FaultClass.APPLICATION: Line(Action.IGNORE, "The program failed, not the card."),
    FaultClass.CONTAINED_MEMORY: Line(
        Action.RESTART, "Only the program that held the memory lost data: start it anew."
    ),
    FaultClass.UNCORRECTED_MEMORY: Line(Action.QUARANTINE, "What was computed since may be wrong until a reset."),
    FaultClass.MEMORY_REPAIR: Line(Action.IGNORE, "The card works rightly; the repair is done at the next reset."),
    FaultClass.MEMORY_WORN: Line(Action.CALL_VENDOR, "The card has no spare memory left there: it must be exchanged."),
    FaultClass.CHANNEL: Line(Action.RESTART, "The program's work on the card is lost; a new start clears it."),
    FaultClass.FIRMWARE: Line(Action.QUARANTINE, "Nothing works until the card is reset, and it may come again."),
    FaultClass.NVLINK: Line(Action.QUARANTINE, "Cards that compute together may lose what they send each other."),
    FaultClass.LINK_ERRORS: Line(Action.IGNORE, "Each error is repaired by sending again; rising ones need a look."),
    FaultClass.BUS: Line(Action.CALL_VENDOR, "The machine no longer reaches the card: power, seat or the card itself."),
    FaultClass.HEAT: Line(Action.IGNORE, "The card protects itself, and less work is let in while it is hot."),
    FaultClass.UNKNOWN: Line(Action.DRAIN, "What nobody knows is not well until somebody has looked."),
}

_OF_FINDINGS = {
    "gpu.temperature": FaultClass.HEAT,
    "gpu.throttle": FaultClass.HEAT,
    "gpu.ecc": FaultClass.UNCORRECTED_MEMORY,
    "gpu.repair_failed": FaultClass.MEMORY_WORN,
    "gpu.repair_pending": FaultClass.MEMORY_REPAIR,
    "gpu.nvlink": FaultClass.LINK_ERRORS,
    "gpu.pcie": FaultClass.LINK_ERRORS,
}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one card. `occasion` tells two happenings of the same fault apart, for a restart each."""

    uuid: str
    kind: FaultClass
    key: str
    title: str
    occasion: str = ""


@dataclass(frozen=True)
class Decision:
    """What the policy makes of one card, and why."""

    hold: Hold
    action: Action
    fault: FaultClass | None
    reason: str
    restarts: tuple[Fault, ...] = ()


def kind_of(key: str) -> FaultClass | None:
    """The kind of fault behind an alert's key; None for one about the inventory."""
    name, _, _uuid = key.rpartition(".")
    if name.startswith("gpu.xid."):
        number = name.removeprefix("gpu.xid.")
        return describe(int(number))[1] if number.isdigit() else None
    return _OF_FINDINGS.get(name)


def event_findings(events: Iterable[Event]) -> tuple[Finding, ...]:
    """What the driver reported and nobody has looked at, one for each number and card. A program's fault rings nobody."""
    found: dict[str, Finding] = {}
    counts: dict[str, int] = {}
    for event in events:
        if event.fault is FaultClass.APPLICATION:
            continue
        counts[event.key] = counts.get(event.key, 0) + 1
        times = f", {counts[event.key]} times" if counts[event.key] > 1 else ""
        detail = f"XID {event.xid} from {event.uuid or 'bus ' + event.place}{times}"
        found[event.key] = Finding(event.key, event.fault.severity, event.meaning, detail)
    return tuple(found.values())


def faults_of(findings: Iterable[Finding], events: Iterable[Event]) -> tuple[Fault, ...]:
    """Everything wrong with single cards: each finding once, each report of the driver for itself."""
    found = [
        Fault(finding.key.rpartition(".")[2], kind, finding.key, finding.title, f"finding:{finding.key}")
        for finding in findings
        if (kind := _OF_FINDINGS.get(finding.key.rpartition(".")[0])) is not None
    ]
    found += [Fault(event.uuid, event.fault, event.key, event.meaning, f"xid:{event.id}") for event in events]
    return tuple(found)


def told(finding: Finding, policy: Mapping[FaultClass, Line], *, card: Card | None, driver: str) -> Finding:
    """The finding with what is done about it, in the words of its alert."""
    kind = kind_of(finding.key)
    if kind is None:
        return finding
    line = policy[kind]
    words = f"{finding.detail}. Action: {line.action.label.lower()}. {line.reason}"
    if line.action is Action.CALL_VENDOR:
        about = vendor_text(card, fault=finding.title, driver=driver) if card else "Call the vendor."
        return replace(finding, severity=Severity.CRITICAL, detail=f"{words} {about}")
    return replace(finding, detail=words)


def decide(faults: Sequence[Fault], policy: Mapping[FaultClass, Line], *, held: Hold) -> Decision:
    """The strongest action among one card's faults. A quarantine stands whatever is found later: a person ends it."""
    worst = max(faults, key=lambda fault: policy[fault.kind].action.rank, default=None)
    restarts = tuple(fault for fault in faults if policy[fault.kind].action is Action.RESTART)
    if worst is None:
        kept = Hold.QUARANTINED if held is Hold.QUARANTINED else Hold.NONE
        return Decision(kept, Action.IGNORE, None, "no fault stands")
    line = policy[worst.kind]
    hold = {Action.DRAIN: Hold.DRAINED, Action.QUARANTINE: Hold.QUARANTINED, Action.CALL_VENDOR: Hold.QUARANTINED}.get(
        line.action, Hold.NONE
    )
    if held is Hold.QUARANTINED:
        hold = Hold.QUARANTINED
    return Decision(hold, line.action, worst.kind, f"{worst.title}. {line.reason}", restarts)


def check_can_requalify(
    *, present: bool, reading: Reading | None, health: Health | None, faults: Iterable[str], now: datetime
) -> None:
    """The check behind requalifying: NotWellError with the first reason why this card may not take work again."""
    if not present or reading is None or now - reading.at > SILENT_AFTER:
        raise NotWellError("gpu_not_read", "the card is not being read now, so nobody can say that it is well")
    standing = sorted(faults)
    if standing:
        raise NotWellError("gpu_fault_stands", f"a fault still stands: {standing[0]}")
    if reading.ecc_uncorrected:
        raise NotWellError("gpu_memory_errors", "it still counts memory errors since its last reset: reset it first")
    if health is None or now - health.at > 6 * SILENT_AFTER:
        raise NotWellError("gpu_not_read", "its counters were not read lately; wait a minute and try again")
    if health.remap_failed:
        raise NotWellError("gpu_memory_worn", "its memory cannot be repaired: it must be exchanged")


def blocks_work(*, held: Iterable[str], processes: Mapping[str, int | None]) -> bool:
    """Whether an engine works on a card that is held, from the number of processes on each card present.

    The box has one engine. Where it is seen on cards and on none of those held, it goes on; where nobody can say,
    it may be on that one.
    """
    held = set(held)
    if not held:
        return False
    elsewhere = any(count for uuid, count in processes.items() if uuid not in held)
    idle = all(processes.get(uuid) == 0 for uuid in held)
    return not (elsewhere and idle)


def vendor_text(card: Card, *, fault: str, driver: str) -> str:
    """What to tell whoever sold the card."""
    serial = card.serial or "not reported"
    return (
        f"Tell the vendor: {fault}; card {card.name}, serial {serial}, {card.uuid}, bus {card.pci}, driver {driver}. "
        "Run nvidia-bug-report.sh before the machine is restarted and keep its file."
    )
