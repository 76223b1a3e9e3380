"""One job for the client who owns it, and a client's list of them: state, place in the line, what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from django.db.models import Model, QuerySet, Window
from django.db.models.functions import RowNumber

from appliance.keyring import services as keyring
from inference.policy import rules as policy
from inference.policy.rules import Rights
from inference.queue import rules
from inference.queue.errors import JobNotFoundError
from inference.queue.models import Job

Row = TypeVar("Row", bound=Model)

SEALED = ("payload", "result", "custom_id", "rights")
"""Columns that no list reads: they are most of a row, and of no use unopened."""


@dataclass(frozen=True)
class JobView:
    """One job without its contents."""

    ref: str
    line: int | None
    """Which line of a batch it is; None when it stands alone."""
    client: str
    task: str
    purpose: str
    state: str
    code: str
    attempt: int
    worker: str
    created: datetime
    started: datetime | None
    finished: datetime | None
    cancel_requested: bool

    @property
    def ended(self) -> bool:
        return self.state not in {Job.State.QUEUED, Job.State.RUNNING}


@dataclass(frozen=True)
class Answered:
    """One job for its own client: where it stands in the line, or what came of it."""

    job: JobView
    position: int | None
    accepted: Rights | None = field(default=None, repr=False)
    result: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Page:
    """Some of a client's jobs, newest first, without their results."""

    jobs: tuple[Answered, ...]
    has_more: bool


def of_client(*, client: str, ref: str) -> Answered:
    """A client's own job with its result; JobNotFoundError for anybody else's."""
    row = Job.objects.filter(ref=ref, client=client).first()
    if row is None:
        raise JobNotFoundError
    result = None
    if row.result is not None and row.state == Job.State.SUCCEEDED:
        result = json.loads(keyring.open_(bytes(row.result), aad=rules.result_name(ref)))
    return Answered(job=view(row), position=places([row]).get(row.pk), accepted=accepted(row), result=result)


def accepted(row: Job) -> Rights | None:
    """What the work was accepted with; None when that was not kept. A line's are its batch's."""
    if row.batch is not None:
        return rules.unpack_rights(keyring.open_(bytes(row.batch.rights), aad=rules.rights_name(row.batch.ref)))
    if row.rights is None:
        return None
    return rules.unpack_rights(keyring.open_(bytes(row.rights), aad=rules.rights_name(row.ref, of="job")))


def list_of_client(*, rights: Rights, state: str = "", batch: str = "", after: str = "", limit: int = 20) -> Page:
    """A client's jobs that stand alone, or the lines of one of its batches, as far as these rights reach; from the
    newest, or from `after` on.
    """
    client = rights.client
    rows = Job.objects.filter(client=client).select_related("batch").defer("payload", "result", "custom_id")
    rows = rows.filter(batch__ref=batch) if batch else rows.filter(batch=None)
    if state:
        rows = rows.filter(state=state)
    if after:
        last = Job.objects.filter(client=client, ref=after).values_list("id", flat=True).first()
        if last is None:
            raise JobNotFoundError
        rows = rows.filter(id__lt=last)
    shown, more = reached(rows, accepted, rights=rights, limit=limit)
    place = places(shown)
    return Page(jobs=tuple(Answered(job=view(row), position=place.get(row.pk)) for row in shown), has_more=more)


def reached(
    rows: QuerySet[Row], accepted: Callable[[Row], Rights | None], *, rights: Rights, limit: int
) -> tuple[list[Row], bool]:
    """The newest of these rows that the rights reach, and whether there are more.

    By pieces: what a row was accepted with is sealed, so the database cannot choose.
    """
    found: list[Row] = []
    while some := list(rows.order_by("-id")[: limit + 1]):
        found += [row for row in some if policy.withheld(accepted(row), rights) is None]
        if len(found) > limit or len(some) <= limit:
            break
        rows = rows.filter(id__lt=some[-1].pk)
    return found[:limit], len(found) > limit


def places(rows: Sequence[Job]) -> dict[int, int]:
    """The place in the whole line of each of these that waits; 1 is next. One count, and one window over the span."""
    waiting = [row.pk for row in rows if row.state == Job.State.QUEUED]
    if not waiting:
        return {}
    queued = Job.objects.filter(state=Job.State.QUEUED)
    before = queued.filter(id__lt=min(waiting)).count()
    span = queued.filter(id__range=(min(waiting), max(waiting))).order_by()
    numbered = span.annotate(place=Window(RowNumber(), order_by="id")).values_list("id", "place")
    wanted = set(waiting)
    return {pk: before + place for pk, place in numbered if pk in wanted}


def view(row: Job) -> JobView:
    return JobView(
        ref=row.ref,
        line=row.line,
        client=row.client,
        task=row.task,
        purpose=row.purpose,
        state=row.state,
        code=row.code,
        attempt=row.attempt,
        worker=row.worker,
        created=row.created,
        started=row.started,
        finished=row.finished,
        cancel_requested=row.cancel_requested,
    )
