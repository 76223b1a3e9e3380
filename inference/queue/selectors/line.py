"""The state of the line for the console, and what in the log was never answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Exists, F, Min, OuterRef, Q
from django.utils import timezone

from appliance.audit.models import Record
from inference.queue.errors import JobNotFoundError
from inference.queue.models import Job, Pause
from inference.queue.selectors.jobs import SEALED, JobView, places, view


@dataclass(frozen=True)
class ClientLine:
    """How much of the line is one client's."""

    client: str
    queued: int = 0
    running: int = 0
    finished_last_hour: int = 0
    oldest_age: timedelta | None = None


@dataclass(frozen=True)
class Waiting:
    """A job that waits, and its place in the whole line; 1 is next."""

    place: int
    job: JobView


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
    """Depth, age, rate and shares. One query, whatever is in the line: the page asks every few seconds."""
    now = timezone.now()
    hour, minute = Q(finished__gte=now - timedelta(hours=1)), Q(finished__gte=now - timedelta(minutes=1))
    # Each arm has an index of its own.
    asked = Job.objects.filter(Q(state=Job.State.QUEUED) | Q(state=Job.State.RUNNING) | hour)
    found = (
        asked.order_by()
        .values("client")
        .annotate(
            queued=Count("id", filter=Q(state=Job.State.QUEUED)),
            running=Count("id", filter=Q(state=Job.State.RUNNING)),
            oldest=Min("created", filter=Q(state=Job.State.QUEUED)),
            hour=Count("id", filter=hour),
            minute=Count("id", filter=minute),
            failed=Count("id", filter=hour & Q(state=Job.State.FAILED)),
        )
    )
    rows: list[dict[str, Any]] = sorted(map(dict, found), key=lambda row: row["client"])
    oldest = [row["oldest"] for row in rows if row["oldest"] is not None]
    return Line(
        depth=sum(row["queued"] for row in rows),
        running=sum(row["running"] for row in rows),
        oldest_age=now - min(oldest) if oldest else None,
        finished_last_minute=sum(row["minute"] for row in rows),
        finished_last_hour=sum(row["hour"] for row in rows),
        failed_last_hour=sum(row["failed"] for row in rows),
        clients=tuple(
            ClientLine(
                client=row["client"],
                queued=row["queued"],
                running=row["running"],
                finished_last_hour=row["hour"],
                oldest_age=now - row["oldest"] if row["oldest"] else None,
            )
            for row in rows
        ),
    )


@dataclass(frozen=True)
class Depth:
    """How much waits, and for how long the longest has."""

    depth: int
    oldest_age: timedelta | None


def depth() -> Depth:
    """The line in two figures, for a page about more than the queue."""
    found = Job.objects.filter(state=Job.State.QUEUED).aggregate(depth=Count("id"), oldest=Min("created"))
    oldest = found["oldest"]
    return Depth(found["depth"], timezone.now() - oldest if oldest else None)


@dataclass(frozen=True)
class PauseView:
    """Who stopped the durable lane, when, and why."""

    by: str
    reason: str
    since: datetime


def pause() -> PauseView | None:
    """The pause of the durable lane; None while it goes on."""
    row = Pause.objects.filter(lane=Pause.Lane.BATCH).first()
    return PauseView(row.by, row.reason, row.since) if row else None


def jobs_listed(
    *, text: str = "", client: str = "", task: str = "", state: str = "", order: str, offset: int, limit: int, most: int
) -> tuple[tuple[Waiting, ...], int]:
    """Some jobs and lines of batches with their places in the line (0: it does not wait), and how many there are."""
    rows = Job.objects.defer(*SEALED)
    if text:
        rows = rows.filter(ref__startswith=text) if text.startswith("job_") else rows.filter(batch__ref=text)
    for name, value in {"client": client, "task": task, "state": state}.items():
        if value:
            rows = rows.filter(**{name: value})
    key = F({"accepted": "id", "client": "client", "state": "state"}[order.lstrip("-")])
    by = key.desc() if order.startswith("-") else key.asc()
    found = list(rows.order_by(by, "-id")[offset : offset + limit])
    place = places(found)
    return tuple(Waiting(place.get(row.pk, 0), view(row)) for row in found), rows.order_by()[: most + 1].count()


def job_of_anybody(ref: str) -> Waiting:
    """One job for staff, without its contents; JobNotFoundError."""
    row = Job.objects.filter(ref=ref).defer(*SEALED).first()
    if row is None:
        raise JobNotFoundError
    return Waiting(places([row]).get(row.pk, 0), view(row))


def head(*, most_running: int = 50, most_waiting: int = 20) -> tuple[tuple[JobView, ...], tuple[Waiting, ...]]:
    """What workers hold now, oldest first, and the head of the line. One query: the page asks every few seconds."""
    rows = Job.objects.defer(*SEALED)
    held = rows.filter(state=Job.State.RUNNING).order_by("started", "id")[:most_running]
    first = rows.filter(state=Job.State.QUEUED).order_by("id")[:most_waiting]
    found = list(held.union(first, all=True))
    running = sorted((row for row in found if row.state == Job.State.RUNNING), key=lambda row: (row.started, row.pk))
    waiting = sorted((row for row in found if row.state == Job.State.QUEUED), key=lambda row: row.pk)
    return tuple(map(view, running)), tuple(Waiting(place, view(row)) for place, row in enumerate(waiting, start=1))


def unanswered_intents(*, since: datetime, until: datetime, limit: int) -> list[Record]:
    """Intents of interactive requests in that time that no outcome followed. A job's are the sweep's."""
    window = {"at_us__gte": int(since.timestamp() * 1_000_000), "at_us__lt": int(until.timestamp() * 1_000_000)}
    answered = Record.objects.filter(kind="outcome", request_id=OuterRef("request_id"))
    intents = Record.objects.filter(kind="intent", request_id__startswith="req_", **window)
    return list(intents.filter(~Exists(answered)).order_by("at_us")[:limit])
