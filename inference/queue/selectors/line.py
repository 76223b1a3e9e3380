"""The state of the line for the console, and what in the log was never answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Exists, Min, OuterRef
from django.utils import timezone

from appliance.audit.models import Record
from inference.queue.models import Job
from inference.queue.selectors.jobs import JobView, view


@dataclass(frozen=True)
class ClientLine:
    """How much of the line is one client's."""

    client: str
    queued: int
    running: int


@dataclass(frozen=True)
class Line:
    """The queue at a glance."""

    depth: int
    running: int
    oldest_age: timedelta | None
    finished_last_minute: int
    finished_last_hour: int
    failed_last_hour: int
    clients: tuple[ClientLine, ...]


def line() -> Line:
    """Depth, age, rate and shares."""
    now = timezone.now()
    queued = Job.objects.filter(state=Job.State.QUEUED)
    oldest = queued.aggregate(at=Min("created"))["at"]
    counts: dict[str, dict[str, int]] = {}
    unfinished = Job.objects.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING])
    for row in unfinished.values("client", "state").annotate(n=Count("id")).order_by("client"):
        counts.setdefault(row["client"], {})[row["state"]] = row["n"]
    hour = Job.objects.filter(finished__gte=now - timedelta(hours=1))
    return Line(
        depth=sum(c.get("queued", 0) for c in counts.values()),
        running=sum(c.get("running", 0) for c in counts.values()),
        oldest_age=None if oldest is None else now - oldest,
        finished_last_minute=hour.filter(finished__gte=now - timedelta(minutes=1)).count(),
        finished_last_hour=hour.count(),
        failed_last_hour=hour.filter(state=Job.State.FAILED).count(),
        clients=tuple(ClientLine(name, c.get("queued", 0), c.get("running", 0)) for name, c in counts.items()),
    )


def running() -> tuple[JobView, ...]:
    """What workers hold now, oldest first."""
    return tuple(view(row) for row in Job.objects.filter(state=Job.State.RUNNING).order_by("started"))


def recent(*, limit: int = 50) -> tuple[JobView, ...]:
    """The newest jobs in whatever state."""
    return tuple(view(row) for row in Job.objects.order_by("-id")[:limit])


def unanswered_intents(*, since: datetime, until: datetime, limit: int) -> list[Record]:
    """Intents of interactive requests in that time that no outcome followed. A job's are the sweep's."""
    window = {"at_us__gte": int(since.timestamp() * 1_000_000), "at_us__lt": int(until.timestamp() * 1_000_000)}
    answered = Record.objects.filter(kind="outcome", request_id=OuterRef("request_id"))
    intents = Record.objects.filter(kind="intent", request_id__startswith="req_", **window)
    return list(intents.filter(~Exists(answered)).order_by("at_us")[:limit])
