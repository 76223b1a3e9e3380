"""Accept, claim, finish, cancel and delete jobs that stand alone. PostgreSQL is the queue and the record.

- A job exists from the commit of `submit` on; the 202 comes after it.
- A worker writes only under the attempt it claimed. The sweep or a cancel that closes an attempt makes every later
  write of that worker a LostLeaseError.
- The intent and the outcome of an attempt are written in the transaction that moves the job, so each attempt has
  exactly one of each, or neither.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field, replace
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, QuerySet
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.entry import Entry, Position, now_us
from appliance.audit.services import unaudited
from appliance.keyring import services as keyring
from inference.policy import rules as policy
from inference.policy.ask import Ask
from inference.queue import rules, selectors
from inference.queue.errors import (
    IdempotencyConflictError,
    JobFinishedError,
    JobNotFoundError,
    JobUnfinishedError,
    LostLeaseError,
    TooManyJobsError,
)
from inference.queue.models import Job, Pause
from inference.serve import refused_as

_UNFINISHED = (Job.State.QUEUED, Job.State.RUNNING)


@dataclass(frozen=True)
class Accepted:
    """A job that is on the books. `again`: the same Idempotency-Key had already put it there."""

    ref: str
    state: str
    again: bool = False


@dataclass(frozen=True)
class Claim:
    """One attempt at one job: what to do, and the fence to do it under."""

    ref: str
    attempt: int
    key_id: str
    ask: Ask = field(repr=False)
    accepted: policy.Rights | None = None
    """None: from before they were kept. Then nobody knows by whose right it would run."""

    @property
    def request_id(self) -> str:
        return f"{self.ref}.{self.attempt}"


@transaction.atomic
def submit(*, actor: str, rights: policy.Rights, ask: Ask, request_id: str, idempotency_key: str = "") -> Accepted:
    """Accept a job: allowed, minimized, sealed, on record. PolicyRefusal or a QueueError otherwise."""
    decision = policy.decide(ask, rights)
    ask = replace(ask, end_user=rights.end_user or ask.end_user)
    prompt = policy.prepare(ask, decision.task)
    payload = rules.pack(ask, prompt)
    key_hash = hashlib.sha256(idempotency_key.encode()).hexdigest() if idempotency_key else None
    body_hmac = audit.fingerprint(payload, use="job")[1]
    if key_hash is not None and (earlier := _earlier(rights.client, key_hash, body_hmac)) is not None:
        return earlier
    unfinished = Job.objects.filter(client=rights.client, batch=None, state__in=_UNFINISHED)
    if unfinished.count() >= rules.MOST_UNFINISHED:
        raise TooManyJobsError("too_many_jobs", "this client has too many unfinished jobs", retry_after_s=60)

    ref, now = f"job_{secrets.token_hex(12)}", timezone.now()
    try:
        with transaction.atomic():
            Job.objects.create(
                ref=ref,
                client=rights.client,
                key_id=rights.key_id,
                task=decision.task.id,
                purpose=decision.purpose,
                not_before=now,
                rung_at=now,
                rights=keyring.seal(
                    rules.pack_rights(policy.used(decision, rights)), aad=rules.rights_name(ref, of="job")
                ),
                payload=keyring.seal(payload, aad=rules.payload_name(ref)),
                idempotency_hash=key_hash,
                body_hmac=body_hmac,
            )
    except IntegrityError:
        # Two at once with one key: the constraint decided, and the other one's row is there now.
        earlier = _earlier(rights.client, key_hash or "", body_hmac)
        if earlier is None:
            raise
        return earlier
    audit.record(
        actor=actor,
        action=Action.JOB_ACCEPTED,
        target=ref,
        client=rights.client,
        key_id=rights.key_id,
        end_user=ask.end_user,
        request_id=request_id,
        detail={
            "dropped": list(prompt.dropped),
            "key": rights.key_id,
            "purpose": ask.purpose,
            "task": ask.task,
            "user": ask.end_user,
            # The assertion is over long before the job is: whether the name was proved is known only here.
            "user_proved": bool(rights.end_user),
        },
    )
    return Accepted(ref, Job.State.QUEUED)


def _earlier(client: str, key_hash: str, body_hmac: str) -> Accepted | None:
    row = Job.objects.filter(client=client, idempotency_hash=key_hash).first()
    if row is None:
        return None
    if row.body_hmac != body_hmac:
        raise IdempotencyConflictError
    return Accepted(row.ref, row.state, again=True)


@unaudited("worker bookkeeping; the attempt's intent and outcome are recorded")
def claim(*, actor: str, ref: str) -> Claim | None:
    """Take the job if it waits, the lane is not paused and nobody else has it. None means: leave it alone."""
    now = timezone.now()
    # In the one statement that takes it: a pause that is committed is a pause for whoever asks from then on.
    paused = Exists(Pause.objects.filter(lane=Pause.Lane.BATCH))
    taken = Job.objects.filter(~paused, ref=ref, state=Job.State.QUEUED, not_before__lte=now).update(
        state=Job.State.RUNNING,
        attempt=F("attempt") + 1,
        worker=actor,
        lease_until=now + rules.LEASE,
        started=now,
    )
    if not taken:
        return None
    row = Job.objects.get(ref=ref)
    if row.worker != actor or row.payload is None:
        return None
    ask = rules.unpack(keyring.open_(bytes(row.payload), aad=rules.payload_name(ref)))
    return Claim(ref=ref, attempt=row.attempt, key_id=row.key_id, ask=ask, accepted=selectors.accepted(row))


@unaudited("worker bookkeeping; the attempt's intent and outcome are recorded")
def renew(*, actor: str, ref: str, attempt: int) -> bool:
    """Keep the lease. False: somebody asked for this job to be cancelled. LostLeaseError: it is not ours any more."""
    mine = _mine(actor, ref, attempt)
    if not mine.update(lease_until=timezone.now() + rules.LEASE):
        raise LostLeaseError
    return not mine.filter(cancel_requested=True).exists()


@transaction.atomic
def open_attempt(*, actor: str, ref: str, attempt: int, intent: Entry) -> Position:
    """Put the intent on record, under the fence."""
    if not _mine(actor, ref, attempt).update(intent_open=True):
        raise LostLeaseError
    return audit.write(intent)


@transaction.atomic
def close_attempt(*, actor: str, ref: str, attempt: int, outcome: Entry, result: bytes = b"") -> Position:
    """Put the outcome on record and move the job, in one step, under the fence."""
    row = _mine(actor, ref, attempt).select_for_update().first()
    if row is None or not row.intent_open:
        raise LostLeaseError
    row.end_attempt(outcome.outcome, timezone.now())
    if row.state == Job.State.SUCCEEDED:
        row.result = keyring.seal(result, aad=rules.result_name(ref))
    row.save()
    return audit.write(outcome)


@unaudited("the attempt never began: nothing was asked of the engine")
def put_back(*, actor: str, ref: str, attempt: int, delay: timedelta) -> None:
    """Return a job that could not be tried now, to be tried later. It is not counted as a failure."""
    now = timezone.now()
    _mine(actor, ref, attempt).filter(intent_open=False).update(
        state=Job.State.QUEUED,
        lease_until=None,
        worker="",
        not_before=now + delay,
        rung_at=now + delay - rules.RING_AGAIN,
    )


@transaction.atomic
def refuse(*, actor: str, ref: str, attempt: int, code: str, end_user: str = "", proved: bool = False) -> None:
    """End a job that may not be done: rights or policy changed since it was accepted."""
    row = _mine(actor, ref, attempt).select_for_update().first()
    if row is None:
        raise LostLeaseError
    row.state, row.code, row.finished = Job.State.FAILED, code, timezone.now()
    row.lease_until, row.payload, row.worker = None, None, ""
    row.save()
    action, event = refused_as(code, Action.JOB_FINISHED)
    audit.write(
        Entry(
            at_us=now_us(),
            kind="refusal",
            action=action.value,
            actor=actor,
            outcome=code,
            target=ref,
            client=row.client,
            key_id=row.key_id,
            end_user=end_user,
            purpose=row.purpose,
            task=row.task,
            detail=json.dumps({"user_proved": proved, **event}),
        )
    )


@transaction.atomic
def cancel(*, actor: str, rights: policy.Rights, ref: str, request_id: str = "") -> str:
    """Stop a job that these rights reach: at once when it waits, within seconds when it runs. The state it is in now."""
    row = Job.objects.select_for_update().filter(ref=ref, client=rights.client).first()
    if row is None:
        raise JobNotFoundError
    policy.check_reaches(rights, selectors.accepted(row))
    stop(row)
    audit.record(
        actor=actor,
        action=Action.JOB_CANCELLED,
        target=ref,
        client=rights.client,
        key_id=rights.key_id,
        end_user=rights.end_user,
        request_id=request_id,
        detail={"user_proved": bool(rights.end_user)},
    )
    return row.state


@unaudited("a part of the cancel, which is recorded")
def stop(row: Job) -> None:
    """At once when it waits; what runs is told. JobFinishedError when it has ended. The row is the caller's, locked."""
    if row.state not in _UNFINISHED:
        raise JobFinishedError("job_finished", "that job has ended")
    row.cancel_requested = True
    if row.state == Job.State.QUEUED:
        row.state, row.code, row.finished, row.payload = Job.State.CANCELLED, "cancelled", timezone.now(), None
    row.save()


@transaction.atomic
def delete(*, actor: str, rights: policy.Rights, ref: str, request_id: str = "") -> None:
    """Forget an ended job and its result; the log keeps that there was one."""
    row = Job.objects.select_for_update().filter(ref=ref, client=rights.client).first()
    if row is None:
        raise JobNotFoundError
    policy.check_reaches(rights, selectors.accepted(row))
    if row.state in _UNFINISHED:
        raise JobUnfinishedError("job_unfinished", "that job has not ended; cancel it first")
    if row.batch_id is not None:
        # The batch's counts and its output speak of every line.
        raise JobUnfinishedError("job_of_batch", "that job is a line of a batch; delete the batch's files instead")
    row.delete()
    audit.record(
        actor=actor,
        action=Action.JOB_DELETED,
        target=ref,
        client=rights.client,
        key_id=rights.key_id,
        end_user=rights.end_user,
        request_id=request_id,
        detail={"user_proved": bool(rights.end_user)},
    )


def _mine(actor: str, ref: str, attempt: int) -> QuerySet[Job]:
    """The row under its fence, as long as this worker holds this attempt; nothing otherwise."""
    return Job.objects.filter(ref=ref, attempt=attempt, worker=actor, state=Job.State.RUNNING)
