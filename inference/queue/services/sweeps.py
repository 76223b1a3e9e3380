"""What dead workers, lost messages and time leave behind: found by these, whoever forgot it.

Set by set: a worker that died in the middle of a slice leaves hundreds of rows, and they are closed by one statement
and one COPY of records.
"""

from __future__ import annotations

import json
import time
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.entry import FIELDS, Entry, now_us
from appliance.audit.services import unaudited
from inference.queue import rules, selectors
from inference.queue.models import Batch, File, Job

_MOVED = ["state", "code", "failures", "intent_open", "lease_until", "worker", "not_before", "rung_at", "finished"]


@transaction.atomic
def sweep(*, actor: str) -> tuple[str, ...]:
    """Close the attempts of dead workers, and say which jobs that stand alone to ring for."""
    now = timezone.now()
    _bury(actor, now)
    if selectors.pause() is not None:
        return ()
    waiting = Job.objects.select_for_update(skip_locked=True).filter(
        batch=None, state=Job.State.QUEUED, not_before__lte=now, rung_at__lt=now - rules.RING_AGAIN
    )
    refs = tuple(waiting.order_by("id").values_list("ref", flat=True)[: rules.MOST_RUNG])
    Job.objects.filter(ref__in=refs).update(rung_at=now)
    return refs


def _bury(actor: str, now: datetime) -> None:
    dead = (
        Job.objects.select_for_update(skip_locked=True)
        .filter(state=Job.State.RUNNING, lease_until__lt=now)
        .order_by("lease_until")
        .defer("payload", "result", "custom_id")[: rules.MOST_BURIED]
    )
    rows = list(dead)
    records = [_unknown(actor, row) for row in rows if row.intent_open]
    for row in rows:
        row.bury(now)
    Job.objects.bulk_update(rows, _MOVED, batch_size=rules.SLICE)
    Job.objects.filter(pk__in=[row.pk for row in rows if row.finished]).update(payload=None)
    audit.write_all(records)


def _unknown(actor: str, row: Job) -> Entry:
    """Whether the engine answered is not known, and the record says so."""
    return Entry(
        at_us=now_us(),
        kind="outcome",
        action=Action.INFERENCE_ANSWERED.value,
        actor=actor,
        outcome="unknown",
        target=row.task,
        request_id=f"{row.ref}.{row.attempt}",
        client=row.client,
        key_id=row.key_id,
        purpose=row.purpose,
        task=row.task,
        detail=json.dumps({"worker": row.worker}),
    )


@unaudited("a bell changes nothing; what is done because of it is recorded")
def unheard_batches() -> tuple[tuple[str, int], ...]:
    """Batches that nobody has touched for a while and that have lines to do: each with the slice to begin at."""
    if selectors.pause() is not None:
        return ()
    now = timezone.now()
    quiet = Batch.objects.filter(state=Batch.State.IN_PROGRESS, rung_at__lt=now - rules.RING_AGAIN).order_by("rung_at")
    found = []
    for batch in quiet[: rules.MOST_RUNG]:
        line = selectors.next_line(batch.pk, now)
        if line is not None:
            Batch.objects.filter(pk=batch.pk).update(rung_at=now)
            found.append((batch.ref, rules.slice_of(line)))
    return tuple(found)


@unaudited("a bell changes nothing; what is done because of it is recorded")
def unread_batches() -> tuple[str, ...]:
    """Accepted batches whose file nobody has read for a while."""
    now = timezone.now()
    waiting = Batch.objects.select_for_update(skip_locked=True).filter(
        state=Batch.State.VALIDATING, rung_at__lt=now - rules.RING_AGAIN
    )
    with transaction.atomic():
        refs = tuple(waiting.order_by("id").values_list("ref", flat=True)[: rules.MOST_RUNG])
        Batch.objects.filter(ref__in=refs).update(rung_at=now)
    return refs


@unaudited("the end of what was stored for so long is part of its being accepted")
def forget() -> None:
    """Results, files and the lines of batches whose life is over; uploads that never ended."""
    now = timezone.now()
    old = now - rules.RESULT_LIFE
    Job.objects.filter(batch=None, finished__lt=old, result__isnull=False).update(result=None)
    wanted = Batch.objects.filter(state=Batch.State.VALIDATING).values("input_file")
    File.objects.filter(ready=True, created__lt=now - rules.FILE_LIFE).exclude(ref__in=wanted).delete()
    File.objects.filter(ready=False, created__lt=now - rules.UPLOAD_WITHIN).delete()
    until = time.monotonic() + rules.FORGET_S
    while _forget_a_batch(old) and time.monotonic() < until:
        pass
    # Its rights go with it: until then they say who may look at its counts.
    Batch.objects.filter(finished__lt=now - rules.BATCH_LIFE, jobs__isnull=True).delete()


def _forget_a_batch(old: datetime) -> bool:
    """The lines and the words of the batch that ended first; False when there is none left."""
    lines = Exists(Job.objects.filter(batch=OuterRef("pk")))
    batch = Batch.objects.filter(lines | Q(metadata__isnull=False), finished__lt=old).order_by("finished").first()
    if batch is None:
        return False
    with transaction.atomic():
        Job.objects.filter(batch=batch).delete()
        Batch.objects.filter(pk=batch.pk).update(metadata=None)
    return True


@transaction.atomic
def close_unanswered(*, actor: str, since: datetime, until: datetime) -> int:
    """Give an outcome to interactive requests whose process died with them: unknown. How many there were.

    `until` must lie further back than the longest generation, or a request that still runs would get two outcomes.
    """
    with connection.cursor() as cursor:
        # One at a time: two sweeps that saw the same intent would each answer it.
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext('close_unanswered'))")
        if not cursor.fetchone()[0]:
            return 0
    found = selectors.unanswered_intents(since=since, until=until, limit=rules.MOST_RUNG)
    for row in found:
        intent = {name: getattr(row, name) for name in FIELDS}
        detail = json.dumps({"closed_by": actor, "intent": [row.shard, row.seq]})
        audit.write(
            Entry(
                **{
                    **intent,
                    "at_us": now_us(),
                    "kind": "outcome",
                    "action": Action.INFERENCE_ANSWERED.value,
                    "outcome": "unknown",
                    "detail": detail,
                }
            )
        )
    return len(found)
