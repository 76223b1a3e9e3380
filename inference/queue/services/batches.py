"""Accept, expand, cancel and end batches. All jobs of a batch are made in one transaction: there is never half of one.

- Accepting is one row, whatever the file holds. Reading the lines is a worker's: tens of thousands of them would take
  the interpreter from the people who wait at the door.
- Each line is decided and minimized as a request of its own. One that may not be asked is a job that has already
  failed, with its reason; it never stops the others.
- The lines are written by COPY, a few thousand at a time, so that no file is ever in memory whole.
- A batch ends when its last line has: whoever closed that line says so, and the sweep does for a worker that died.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from django.db import IntegrityError, connection, transaction
from django.db.models import Q
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.entry import Entry, now_us
from appliance.audit.services import unaudited
from appliance.keyring import services as keyring
from inference.policy import rules as policy
from inference.policy.errors import PolicyRefusal
from inference.queue import copying, rules, selectors
from inference.queue.errors import (
    BatchError,
    BatchNotFoundError,
    FileInUseError,
    FileNotStoredError,
    IdempotencyConflictError,
    TooManyJobsError,
)
from inference.queue.models import Batch, File, Job
from inference.serve import refused_as

log = logging.getLogger(__name__)

_PER_COPY = 2000
_PHI = "phi_not_granted"
_MOST_NAMED = 20


@dataclass(frozen=True)
class AcceptedBatch:
    """A batch that is on the books. `again`: the same Idempotency-Key had already put it there."""

    ref: str
    again: bool = False


@transaction.atomic
def accept_batch(
    *,
    actor: str,
    rights: policy.Rights,
    input_file: str,
    endpoint: str = rules.ENDPOINTS[0],
    metadata: Mapping[str, str] | None = None,
    request_id: str = "",
    idempotency_key: str = "",
) -> AcceptedBatch:
    """Put a batch on the books: a stored file, and the promise that each of its lines will end. A QueueError if not.

    However many lines there are, this is one row and one record: they are in the file, sealed and durable, and the
    file is kept until `expand_batch` has read it.
    """
    told = json.dumps([input_file, endpoint, dict(metadata or {})], sort_keys=True).encode()
    key_hash = hashlib.sha256(idempotency_key.encode()).hexdigest() if idempotency_key else None
    body_hmac = audit.fingerprint(told, use="batch")[1]
    if key_hash is not None and (earlier := _earlier(rights.client, key_hash, body_hmac)) is not None:
        return earlier
    # Locked, so that nobody deletes it between this look and the commit.
    source = File.objects.select_for_update().filter(client=rights.client, ref=input_file, ready=True).first()
    if source is None:
        raise FileNotStoredError
    policy.check_reaches(rights, selectors.file_accepted(source))
    if source.lines + selectors.unfinished_lines(rights.client) > rules.MOST_UNFINISHED_LINES:
        raise TooManyJobsError("too_many_jobs", "this client has too many unfinished lines", retry_after_s=60)

    ref, now = f"batch_{secrets.token_hex(12)}", timezone.now()
    try:
        with transaction.atomic():
            Batch.objects.create(
                ref=ref,
                client=rights.client,
                key_id=rights.key_id,
                endpoint=endpoint,
                input_file=input_file,
                metadata=keyring.seal(json.dumps(metadata).encode(), aad=rules.metadata_name(ref))
                if metadata
                else None,
                rights=keyring.seal(rules.pack_rights(rights), aad=rules.rights_name(ref)),
                total=source.lines,
                rung_at=now,
                expires=now + rules.WINDOW,
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
        action=Action.BATCH_ACCEPTED,
        target=ref,
        client=rights.client,
        key_id=rights.key_id,
        end_user=rights.end_user,
        request_id=request_id,
        detail={
            "file": input_file,
            "key": rights.key_id,
            "lines": source.lines,
            "user": rights.end_user,
            "user_proved": bool(rights.end_user),
        },
    )
    return AcceptedBatch(ref)


Reader = Callable[[policy.Rights, str, str], Iterable[rules.Line | rules.BadLine]]
"""From rights, a file and an endpoint to lines: what a line looks like is the door's."""


@transaction.atomic
def expand_batch(*, actor: str, ref: str, read: Reader) -> bool:
    """Make the jobs of a batch, all in this transaction. False: there is nothing to do, or somebody is at it."""
    row = Batch.objects.select_for_update(skip_locked=True).filter(ref=ref, state=Batch.State.VALIDATING).first()
    if row is None:
        return False
    rights = selectors.batch_accepted(row)
    writer = _Writer(row, rights)
    writer.write(read(rights, row.input_file, row.endpoint))
    now = timezone.now()
    row.total, row.failed, row.rung_at, row.started = writer.total, writer.refused, now, now
    row.state = Batch.State.IN_PROGRESS
    if writer.refused == writer.total:
        row.state, row.finished = (Batch.State.COMPLETED if writer.total else Batch.State.FAILED), now
    row.save(update_fields=["total", "failed", "rung_at", "started", "state", "finished"])
    audit.record(
        actor=actor,
        action=Action.BATCH_EXPANDED,
        target=ref,
        outcome=row.state,
        client=row.client,
        detail={"lines": writer.total, "refused": writer.refused},
    )
    audit.write_all([_attempt(row, rights, user, count) for user, count in sorted(writer.phi_refused.items())])
    return row.finished is None


def _attempt(row: Batch, rights: policy.Rights, user: str, count: int) -> Entry:
    """The lines that asked for PHI without the right to, for one user: counted, and watched like those at the door."""
    action, event = refused_as(_PHI, Action.BATCH_EXPANDED)
    return Entry(
        at_us=now_us(),
        kind="refusal",
        action=action.value,
        actor=row.client,
        outcome=_PHI,
        target=row.ref,
        client=row.client,
        key_id=row.key_id,
        end_user=user,
        detail=json.dumps({"count": count, "user_proved": bool(rights.end_user), **event}),
    )


def _earlier(client: str, key_hash: str, body_hmac: str) -> AcceptedBatch | None:
    row = Batch.objects.filter(client=client, idempotency_hash=key_hash).first()
    if row is None:
        return None
    if row.body_hmac != body_hmac:
        raise IdempotencyConflictError
    return AcceptedBatch(row.ref, again=True)


class _Writer:
    """The rows of one batch's lines."""

    def __init__(self, batch: Batch, rights: policy.Rights) -> None:
        self._batch = batch
        self._rights = rights
        self._sealer = keyring.sealer()
        self._rows = copying.JobRows(batch)
        self._seen: set[str] = set()
        self.total = 0
        self.refused = 0
        self.phi_refused: Counter[str] = Counter()
        """By the user they were asked for."""

    def write(self, lines: Iterable[rules.Line | rules.BadLine]) -> None:
        """All of them, in groups: a line may come from a read of the same connection, and a COPY has it to itself."""
        waiting = iter(lines)
        while rows := [self._row(line) for line in islice(waiting, _PER_COPY)]:
            with connection.cursor() as cursor, cursor.copy(copying.COPY_IN) as copy:
                copy.write(copying.stream(rows))

    def _row(self, line: rules.Line | rules.BadLine) -> bytes:
        self.total += 1
        if line.custom_id and line.custom_id in self._seen:
            line = rules.BadLine(
                line.number, "duplicate_custom_id", "an earlier line has that custom_id", "custom_id", line.custom_id
            )
        self._seen.add(line.custom_id)
        if isinstance(line, rules.Line):
            try:
                return self._asked(line)
            except PolicyRefusal as refusal:
                self._count(line.ask.end_user, refusal.code)
                line = rules.BadLine(line.number, refusal.code, refusal.message, refusal.param, line.custom_id)
            except Exception as error:
                # A line that trips over a bug of ours must not stop the others, today or at each new try.
                log.error("line_bug", exc_info=error, extra={"batch": self._batch.ref})
                told = "this line met a fault of the appliance"
                line = rules.BadLine(line.number, "internal_error", told, custom_id=line.custom_id)
        return self._refused(line)

    def _asked(self, line: rules.Line) -> bytes:
        decision = policy.decide(line.ask, self._rights)
        ask = replace(line.ask, end_user=self._rights.end_user) if self._rights.end_user else line.ask
        prompt = policy.prepare(ask, decision.task)
        ref = rules.line_ref(self._batch.ref, line.number)
        return self._rows.waiting(
            ref,
            line.number,
            task=decision.task.id,
            purpose=decision.purpose,
            custom_id=self._sealer.seal(line.custom_id.encode(), aad=rules.custom_id_name(ref)),
            payload=self._sealer.seal(rules.pack(ask, prompt), aad=rules.payload_name(ref)),
        )

    def _count(self, named: str, code: str) -> None:
        if code == _PHI:
            user = self._rights.end_user or named
            # The names are the app's: beyond so many they are counted together, and the log stays readable.
            known = user in self.phi_refused or len(self.phi_refused) < _MOST_NAMED
            self.phi_refused[user if known else ""] += 1

    def _refused(self, line: rules.BadLine) -> bytes:
        self.refused += 1
        ref = rules.line_ref(self._batch.ref, line.number)
        return self._rows.failed(
            ref,
            line.number,
            code=line.code,
            custom_id=self._sealer.seal(line.custom_id.encode(), aad=rules.custom_id_name(ref)),
            result=self._sealer.seal(line.error, aad=rules.result_name(ref)),
        )


@transaction.atomic
def cancel_batch(*, actor: str, rights: policy.Rights, ref: str, request_id: str = "") -> None:
    """Stop a batch that these rights reach: what waits at once, what runs within seconds."""
    # One that is being expanded is locked for seconds; then its lines are there to be stopped.
    row = Batch.objects.select_for_update().filter(ref=ref, client=rights.client).first()
    if row is None:
        raise BatchNotFoundError
    policy.check_reaches(rights, selectors.batch_accepted(row))
    if row.finished is not None:
        raise BatchError("batch_finished", "that batch has ended")
    if row.state == Batch.State.CANCELLING:
        return
    stop_whole(row)
    audit.record(
        actor=actor,
        action=Action.BATCH_CANCELLED,
        target=ref,
        client=rights.client,
        key_id=rights.key_id,
        end_user=rights.end_user,
        request_id=request_id,
        detail={"user_proved": bool(rights.end_user)},
    )


@transaction.atomic
def end_batches(*, actor: str, only: str = "") -> tuple[str, ...]:
    """End every batch, or the named one, whose last line has ended; stop those whose window is over."""
    now = timezone.now()
    open_ = Batch.objects.select_for_update(skip_locked=not only).filter(finished=None)
    if only:
        open_ = open_.filter(ref=only)
    ended = []
    for row in open_.order_by("id"):
        if row.state == Batch.State.CANCELLING:
            _stop_lines(row, "cancelled")  # again: an attempt that ended meanwhile may have gone back into the line
        elif row.expires < now:
            _stop_lines(row, "batch_expired")
        elif row.state == Batch.State.VALIDATING:
            continue
        if selectors.has_unfinished(row.pk):
            continue
        counts = selectors.counts(row.pk)
        row.succeeded, row.failed = counts.completed, counts.failed
        row.state, row.finished = _last_state(row), now
        row.save(update_fields=["succeeded", "failed", "state", "finished"])
        audit.record(
            actor=actor,
            action=Action.BATCH_FINISHED,
            target=row.ref,
            outcome=row.state,
            client=row.client,
            detail={"failed": row.failed, "lines": row.total, "succeeded": row.succeeded},
        )
        ended.append(row.ref)
    return tuple(ended)


def _last_state(row: Batch) -> str:
    if row.state == Batch.State.CANCELLING:
        return Batch.State.CANCELLED
    stopped = row.state == Batch.State.VALIDATING or Job.objects.filter(batch=row, code="batch_expired").exists()
    return Batch.State.EXPIRED if stopped else Batch.State.COMPLETED


@unaudited("a part of the cancel, which is recorded")
def stop_whole(row: Batch) -> None:
    """The batch is being ended, and its lines with it. The row is the caller's, locked."""
    row.state, row.cancelling = Batch.State.CANCELLING, timezone.now()
    row.save(update_fields=["state", "cancelling"])
    _stop_lines(row, "cancelled")


@unaudited("a part of the cancel or of the end, which is recorded")
def _stop_lines(row: Batch, code: str) -> None:
    """What waits ends now; what runs is told, and its worker looks every few seconds."""
    jobs = Job.objects.filter(batch=row)
    jobs.filter(state=Job.State.QUEUED).update(
        state=Job.State.CANCELLED, code=code, finished=timezone.now(), payload=None, cancel_requested=True
    )
    # In the order in which workers lock them, too (`slices`).
    held = jobs.select_for_update().filter(state=Job.State.RUNNING).order_by("id").values_list("id", flat=True)
    jobs.filter(pk__in=list(held)).update(cancel_requested=True)


@transaction.atomic
def delete_output(*, actor: str, rights: policy.Rights, ref: str, failed: bool, request_id: str = "") -> None:
    """Forget what a batch answered, or what went wrong; its counts stay."""
    row = Batch.objects.select_for_update().filter(ref=ref, client=rights.client).first()
    if row is None:
        raise BatchNotFoundError
    policy.check_reaches(rights, selectors.batch_accepted(row))
    if row.finished is None:
        # Its counts are still read from its jobs.
        raise FileInUseError("file_in_use", "that batch has not ended; cancel it first")
    ended = ~Q(state=Job.State.SUCCEEDED) if failed else Q(state=Job.State.SUCCEEDED)
    Job.objects.filter(ended, batch=row).delete()
    audit.record(
        actor=actor,
        action=Action.FILE_DELETED,
        target=ref,
        client=rights.client,
        key_id=rights.key_id,
        end_user=rights.end_user,
        request_id=request_id,
        detail={"user_proved": bool(rights.end_user)},
    )
