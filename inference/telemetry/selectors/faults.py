"""Reads of faults: the events, the policy in force, what is held and which restarts are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from appliance.alerts import selectors as alerts
from inference.telemetry import rules
from inference.telemetry.models import EngineRestart, FaultPolicy, Gpu, XidEvent
from inference.telemetry.selectors.cards import sampler


@dataclass(frozen=True)
class PolicyLine:
    """One line of the policy as a page shows it; `change_id` is None for what the box came with."""

    fault: rules.FaultClass
    line: rules.Line
    change_id: int | None
    since: datetime | None


@dataclass(frozen=True)
class Restart:
    """A wanted start of the engine anew."""

    id: int
    uuid: str
    fault: rules.FaultClass
    asked_at: datetime


@dataclass(frozen=True)
class Capacity:
    """What is held from work. `blocked`: the engine works on such a card, so nothing new goes to it."""

    held: tuple[str, ...]
    blocked: bool


def events(limit: int = 100) -> tuple[rules.Event, ...]:
    """The newest fault reports, looked at or not."""
    return _values(XidEvent.objects.order_by("-at", "-pk")[:limit])


def open_events() -> tuple[rules.Event, ...]:
    """The fault reports that nobody has looked at."""
    return _values(XidEvent.objects.filter(acknowledged_at__isnull=True).order_by("at", "pk"))


def events_near(report: rules.Report) -> tuple[rules.Event, ...]:
    """What the report may be the second word on; rules.same decides."""
    within = (report.at - rules.SAME_WITHIN, report.at + rules.SAME_WITHIN)
    return _values(XidEvent.objects.filter(xid=report.xid, place=report.place, at__range=within).order_by("at", "pk"))


def policy() -> Mapping[rules.FaultClass, rules.Line]:
    """What is done about each kind of fault now."""
    return {item.fault: item.line for item in policy_lines()}


def policy_lines() -> tuple[PolicyLine, ...]:
    """The same with where each line comes from, in the order of the kinds."""
    rows = {row.fault: row for row in FaultPolicy.objects.all()}
    lines = []
    for fault, line in rules.DEFAULTS.items():
        row = rows.get(fault.value)
        if row is None:
            lines.append(PolicyLine(fault, line, None, None))
        else:
            lines.append(PolicyLine(fault, rules.Line(rules.Action(row.action), row.reason), row.change_id, row.since))
    return tuple(lines)


def blocking_faults(uuid: str) -> tuple[str, ...]:
    """What stands against this card that the policy does something about, by its alert's title."""
    lines = policy()
    return tuple(
        alert.title
        for alert in alerts.standing()
        if (kind := rules.kind_of(alert.key)) is not None
        and alert.key.endswith(f".{uuid}")
        and lines[kind].action is not rules.Action.IGNORE
    )


def capacity() -> Capacity:
    """What is held, and whether that stops the engine.

    A held card that is gone while as many are present as are expected was exchanged: no engine works on it.
    """
    if not Gpu.objects.exclude(held="").exists():
        return Capacity((), blocked=False)
    gpus = list(Gpu.objects.select_related("health"))
    seen = sampler()
    since = timezone.now() - rules.SILENT_AFTER
    if seen.alive and seen.present >= seen.expected:
        gpus = [gpu for gpu in gpus if gpu.last_seen > since]
    held = tuple(gpu.uuid for gpu in gpus if gpu.held)
    processes = {
        gpu.uuid: len(gpu.health.processes) if hasattr(gpu, "health") and gpu.health.processes is not None else None
        for gpu in gpus
    }
    return Capacity(held, rules.blocks_work(held=held, processes=processes))


def restarts() -> tuple[Restart, ...]:
    """The restarts that are still to do, the oldest first."""
    return tuple(
        Restart(row.pk, row.uuid, rules.FaultClass(row.fault), row.asked_at)
        for row in EngineRestart.objects.filter(done_at__isnull=True).order_by("asked_at", "pk")
    )


def _values(rows: QuerySet[XidEvent]) -> tuple[rules.Event, ...]:
    return tuple(
        rules.Event(
            id=row.pk,
            xid=row.xid,
            place=row.place,
            uuid=row.gpu.uuid if row.gpu else "",
            at=row.at,
            sources=frozenset(
                source
                for source, told in ((rules.Source.DRIVER, row.by_driver), (rules.Source.KERNEL, row.by_kernel))
                if told
            ),
            acknowledged_by=row.acknowledged_by,
            acknowledged_at=row.acknowledged_at,
        )
        for row in rows.select_related("gpu")
    )
