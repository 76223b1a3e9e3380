"""What staff may do to the line: stop it, let it go on, and end somebody's work. Not by a client's rights: by a person's.

- A pause stops what has not begun. What runs ends as it would, so a paused lane is a drained one once nothing runs.
- Ending a client's work needs a reason, and the client reads `cancelled` as if it had asked for it itself.
"""

from __future__ import annotations

from django.db import transaction

from appliance.audit import services as audit
from appliance.audit.actions import Action
from inference.queue.errors import BatchError, BatchNotFoundError, JobNotFoundError, PauseError
from inference.queue.models import Batch, Job, Pause
from inference.queue.services.batches import stop_whole
from inference.queue.services.jobs import stop


@transaction.atomic
def pause(*, actor: str, reason: str, request_id: str = "") -> None:
    """Let nothing new of the durable lane begin. PauseError when it is paused already."""
    row, made = Pause.objects.get_or_create(lane=Pause.Lane.BATCH, defaults={"by": actor, "reason": reason})
    if not made:
        raise PauseError("already_paused", f"{row.by} has paused it already")
    audit.record(
        actor=actor, action=Action.QUEUE_PAUSED, target=row.lane, request_id=request_id, detail={"reason": reason}
    )


@transaction.atomic
def resume(*, actor: str, request_id: str = "") -> None:
    """Let the durable lane go on. PauseError when it does."""
    gone, _ = Pause.objects.filter(lane=Pause.Lane.BATCH).delete()
    if not gone:
        raise PauseError("not_paused", "it is not paused")
    audit.record(actor=actor, action=Action.QUEUE_RESUMED, target=Pause.Lane.BATCH.value, request_id=request_id)


@transaction.atomic
def stop_job(*, actor: str, ref: str, reason: str, request_id: str = "") -> None:
    """End a job, whoever's it is: at once when it waits, within seconds when it runs."""
    row = Job.objects.select_for_update().filter(ref=ref).first()
    if row is None:
        raise JobNotFoundError
    stop(row)
    audit.record(
        actor=actor,
        action=Action.JOB_CANCELLED,
        target=ref,
        client=row.client,
        request_id=request_id,
        detail={"by": "staff", "reason": reason},
    )


@transaction.atomic
def stop_batch(*, actor: str, ref: str, reason: str, request_id: str = "") -> None:
    """End a batch, whoever's it is: what waits at once, what runs within seconds. What was answered stays."""
    row = Batch.objects.select_for_update().filter(ref=ref).first()
    if row is None:
        raise BatchNotFoundError
    if row.finished is not None or row.state == Batch.State.CANCELLING:
        raise BatchError("batch_finished", "that batch has ended or is being ended")
    stop_whole(row)
    audit.record(
        actor=actor,
        action=Action.BATCH_CANCELLED,
        target=ref,
        client=row.client,
        request_id=request_id,
        detail={"by": "staff", "reason": reason},
    )
