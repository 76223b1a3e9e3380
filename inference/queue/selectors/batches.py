"""Reads of files and batches: for the client who owns them, for the worker, and without contents for the console.

What is in a file and what came of a line are opened here and nowhere else, a piece at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Length

from appliance.keyring import services as keyring
from inference.policy.rules import Rights
from inference.queue import rules
from inference.queue.errors import BatchNotFoundError, FileNotStoredError
from inference.queue.models import Batch, File, FilePiece, Job
from inference.queue.selectors.jobs import reached

_UNFINISHED = (Job.State.QUEUED, Job.State.RUNNING)


@dataclass(frozen=True)
class FileView:
    """One file without its contents."""

    ref: str
    name: str = field(repr=False)
    size: int
    lines: int
    created: datetime
    accepted: Rights | None = field(repr=False)


@dataclass(frozen=True)
class Counts:
    """OpenAI's three numbers: every line, those with an answer, those without one and with no more to come."""

    total: int
    completed: int
    failed: int


@dataclass(frozen=True)
class BatchView:
    """One batch without its contents."""

    ref: str
    client: str
    endpoint: str
    input_file: str
    state: str
    counts: Counts
    created: datetime
    expires: datetime
    started: datetime | None
    cancelling: datetime | None
    finished: datetime | None
    metadata: Mapping[str, str] | None = field(default=None, repr=False)
    accepted: Rights | None = field(default=None, repr=False)

    @property
    def left(self) -> int:
        """How many lines wait or run."""
        return self.counts.total - self.counts.completed - self.counts.failed


@dataclass(frozen=True)
class Ended:
    """One line of a batch that has ended. `result` is the answer, or the refusal in words, or nothing."""

    ref: str
    line: int
    custom_id: str = field(repr=False)
    state: str
    code: str
    attempt: int
    finished: datetime | None
    result: Mapping[str, Any] | None = field(repr=False)


def file(*, client: str, ref: str) -> FileView:
    """A client's own file; FileNotStoredError for anybody else's."""
    row = File.objects.filter(client=client, ref=ref, ready=True).first()
    if row is None:
        raise FileNotStoredError
    return _file(row)


def files(*, rights: Rights, after: str = "", limit: int = 20) -> tuple[tuple[FileView, ...], bool]:
    """A client's files that these rights reach, newest first, and whether there are more."""
    rows = File.objects.filter(client=rights.client, ready=True)
    if after:
        last = rows.filter(ref=after).values_list("id", flat=True).first()
        if last is None:
            raise FileNotStoredError
        rows = rows.filter(id__lt=last)
    found, more = reached(rows, file_accepted, rights=rights, limit=limit)
    return tuple(map(_file, found)), more


def piece(*, client: str, ref: str, number: int) -> bytes:
    """The next bytes of a file; nothing after the last."""
    sealed = FilePiece.objects.filter(file__client=client, file__ref=ref, file__ready=True, number=number)
    content = sealed.values_list("content", flat=True).first()
    return b"" if content is None else keyring.open_(bytes(content), aad=rules.piece_name(ref, number))


def file_lines(*, client: str, ref: str) -> Iterator[tuple[int, bytes | None]]:
    """Each line of a file with its number from 1, blank ones left out; None for one that is too long.

    CRLF ends a line as LF does: to JSON the CR is white space.
    """
    file(client=client, ref=ref)
    number, rest, too_long = 0, b"", False
    pieces = 0
    while content := piece(client=client, ref=ref, number=pieces):
        pieces += 1
        *whole, rest = (rest + content).split(b"\n")
        for raw in whole:
            number += 1
            if too_long or len(raw) > rules.LONGEST_LINE:
                yield number, None
            elif raw.strip():
                yield number, raw
            too_long = False
        if len(rest) > rules.LONGEST_LINE:
            rest, too_long = b"", True
    if too_long or rest.strip():
        yield number + 1, None if too_long else rest


def batch(*, client: str, ref: str) -> BatchView:
    """A client's own batch; BatchNotFoundError for anybody else's."""
    row = Batch.objects.filter(client=client, ref=ref).first()
    if row is None:
        raise BatchNotFoundError
    return _batch(row)


def batches(*, rights: Rights, after: str = "", limit: int = 20) -> tuple[tuple[BatchView, ...], bool]:
    """A client's batches that these rights reach, newest first, and whether there are more."""
    rows = Batch.objects.filter(client=rights.client)
    if after:
        last = rows.filter(ref=after).values_list("id", flat=True).first()
        if last is None:
            raise BatchNotFoundError
        rows = rows.filter(id__lt=last)
    found, more = reached(rows, batch_accepted, rights=rights, limit=limit)
    return tuple(map(_batch, found)), more


def open_batches(*, limit: int = 20) -> tuple[BatchView, ...]:
    """Every client's batches that have not ended, oldest first, without their metadata."""
    rows = Batch.objects.filter(finished=None).order_by("id")[:limit]
    counted = _counted(Q(batch__in=[row.pk for row in rows]))
    return tuple(_view(row, counted.get(row.pk, Counts(row.total, 0, 0))) for row in rows)


def batches_listed(
    *, text: str = "", client: str = "", state: str = "", order: str, offset: int, limit: int, most: int
) -> tuple[tuple[BatchView, ...], int]:
    """Some batches of whoever, without their metadata, and how many there are, counted to `most` + 1."""
    rows = Batch.objects.defer("metadata", "rights")
    for name, value in {"ref__startswith": text, "client": client, "state": state}.items():
        if value:
            rows = rows.filter(**{name: value})
    key = F({"accepted": "id", "client": "client", "state": "state"}[order.lstrip("-")])
    by = key.desc() if order.startswith("-") else key.asc()
    found = list(rows.order_by(by, "-id")[offset : offset + limit])
    counted = _counted(Q(batch__in=[row.pk for row in found if row.finished is None]))
    kept = {row.pk: Counts(row.total, row.succeeded, row.failed) for row in found}
    views = tuple(_view(row, counted.get(row.pk, kept[row.pk])) for row in found)
    return views, rows.order_by()[: most + 1].count()


def batch_of_anybody(ref: str) -> BatchView:
    """One batch for staff, without its metadata; BatchNotFoundError."""
    row = Batch.objects.filter(ref=ref).defer("metadata", "rights").first()
    if row is None:
        raise BatchNotFoundError
    counted = Counts(row.total, row.succeeded, row.failed) if row.finished else counts(row.pk)
    return _view(row, counted if counted.total else Counts(row.total, row.succeeded, row.failed))


def output(*, client: str, ref: str, failed: bool, after: int = 0, limit: int = 200) -> tuple[Ended, ...]:
    """The next lines of a batch that have an answer, or that have none and will get none; in the file's order."""
    rows = Job.objects.filter(batch__ref=ref, batch__client=client, line__gt=after)
    ended = Q(state__in=[Job.State.FAILED, Job.State.CANCELLED]) if failed else Q(state=Job.State.SUCCEEDED)
    return tuple(_ended(row) for row in rows.filter(ended).defer("payload").order_by("line")[:limit])


def output_size(*, ref: str, failed: bool) -> tuple[int, int]:
    """How many lines a batch's output has, and how many bytes of answers are kept for it."""
    rows = Job.objects.filter(batch__ref=ref)
    ended = Q(state__in=[Job.State.FAILED, Job.State.CANCELLED]) if failed else Q(state=Job.State.SUCCEEDED)
    found = rows.filter(ended).aggregate(lines=Count("id"), size=Sum(Length("result")))
    return int(found["lines"]), int(found["size"] or 0)


def counts(batch_id: int) -> Counts:
    """How far a batch is."""
    return _counted(Q(batch=batch_id)).get(batch_id, Counts(0, 0, 0))


def has_unfinished(batch_id: int) -> bool:
    return Job.objects.filter(batch=batch_id, state__in=_UNFINISHED).exists()


def unfinished_lines(client: str) -> int:
    """How many lines a client has in batches that have not ended."""
    return Batch.objects.filter(client=client, finished=None).aggregate(n=Sum("total"))["n"] or 0


def next_line(batch_id: int, now: datetime) -> int | None:
    """The first line of a batch that a worker could take now."""
    ready = Job.objects.filter(batch=batch_id, state=Job.State.QUEUED, not_before__lte=now)
    return ready.order_by("line").values_list("line", flat=True).first()


def file_accepted(row: File) -> Rights | None:
    """What whoever stored it might ask; None when that was not kept."""
    if row.rights is None:
        return None
    return rules.unpack_rights(keyring.open_(bytes(row.rights), aad=rules.rights_name(row.ref, of="file")))


def batch_accepted(row: Batch) -> Rights:
    """What whoever handed it in might ask."""
    return rules.unpack_rights(keyring.open_(bytes(row.rights), aad=rules.rights_name(row.ref)))


def _counted(of: Q) -> dict[int, Counts]:
    rows = (
        Job.objects.filter(of)
        .order_by()
        .values("batch_id")
        .annotate(
            total=Count("id"),
            completed=Count("id", filter=Q(state=Job.State.SUCCEEDED)),
            unfinished=Count("id", filter=Q(state__in=_UNFINISHED)),
        )
    )
    return {
        row["batch_id"]: Counts(row["total"], row["completed"], row["total"] - row["completed"] - row["unfinished"])
        for row in rows
    }


def _file(row: File) -> FileView:
    name = keyring.open_(bytes(row.name), aad=rules.file_name(row.ref)).decode()
    return FileView(
        ref=row.ref, name=name, size=row.size, lines=row.lines, created=row.created, accepted=file_accepted(row)
    )


def _batch(row: Batch) -> BatchView:
    found = _final(row) if row.finished else Counts(row.total, 0, 0) if row.started is None else counts(row.pk)
    metadata = None
    if row.metadata is not None:
        metadata = json.loads(keyring.open_(bytes(row.metadata), aad=rules.metadata_name(row.ref)))
    return replace(_view(row, found, metadata), accepted=batch_accepted(row))


def _final(row: Batch) -> Counts:
    """The counts that were kept: the lines themselves may be gone."""
    return Counts(row.total, row.succeeded, row.total - row.succeeded)


def _view(row: Batch, counted: Counts, metadata: Mapping[str, str] | None = None) -> BatchView:
    return BatchView(
        ref=row.ref,
        client=row.client,
        endpoint=row.endpoint,
        input_file=row.input_file,
        state=row.state,
        counts=counted,
        created=row.created,
        expires=row.expires,
        started=row.started,
        cancelling=row.cancelling,
        finished=row.finished,
        metadata=metadata,
    )


def _ended(row: Job) -> Ended:
    custom_id = b"" if row.custom_id is None else keyring.open_(bytes(row.custom_id), aad=rules.custom_id_name(row.ref))
    result = None if row.result is None else keyring.open_(bytes(row.result), aad=rules.result_name(row.ref))
    return Ended(
        ref=row.ref,
        line=row.line or 0,
        custom_id=custom_id.decode(),
        state=row.state,
        code=row.code,
        attempt=row.attempt,
        finished=row.finished,
        result=None if result is None else json.loads(result),
    )
