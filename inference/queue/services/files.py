"""Store and delete the files of batches. What is in them is patient text: sealed piece by piece as it arrives.

An upload is rows that nobody sees until `finish`; one that breaks off is deleted by the sweep.
"""

from __future__ import annotations

import secrets

from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from appliance.keyring import services as keyring
from inference.policy.rules import Rights, check_reaches
from inference.queue import rules, selectors
from inference.queue.errors import FileInUseError, FileNotStoredError, StorageFullError
from inference.queue.models import Batch, File, FilePiece


@unaudited("nothing is stored until the file is finished")
def begin_file(*, rights: Rights, name: str) -> str:
    """Open an upload; StorageFullError when the client has stored as much as it may, or as many open as it may."""
    ref = f"file-{secrets.token_hex(12)}"
    with transaction.atomic():
        if _stored(rights.client) > rules.MOST_STORED - rules.LARGEST_FILE:
            raise _full()
        # What broke off without a word, with its process or the database, must not lock its client out until the sweep.
        alive = timezone.now() - rules.UPLOAD_STALLED
        if File.objects.filter(client=rights.client, ready=False, touched__gt=alive).count() >= rules.MOST_UPLOADS:
            raise StorageFullError("client_queue_full", "this client has too many uploads open", retry_after_s=5)
        File.objects.create(
            ref=ref,
            client=rights.client,
            name=keyring.seal(name.encode(), aad=rules.file_name(ref)),
            rights=keyring.seal(rules.pack_rights(rights), aad=rules.rights_name(ref, of="file")),
        )
    return ref


@unaudited("nothing is stored until the file is finished")
def add_piece(*, ref: str, number: int, content: bytes) -> None:
    """Seal and keep the next bytes. The size counts at once: uploads side by side share one limit."""
    with transaction.atomic():
        row = File.objects.select_for_update().filter(ref=ref, ready=False).first()
        if row is None:
            raise FileNotStoredError
        if _stored(row.client) + len(content) > rules.MOST_STORED:
            raise _full()  # there was room when it was opened, and others have used it since
        sealed = keyring.seal(content, aad=rules.piece_name(ref, number))
        FilePiece.objects.create(file=row, number=number, content=sealed)
        row.size += len(content)
        row.touched = timezone.now()
        row.save(update_fields=["size", "touched"])


def _stored(client: str) -> int:
    """How much a client has stored, uploads too; until the commit nobody else adds to it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('queue_file'), hashtext(%s))", [client])
    return File.objects.filter(client=client).aggregate(size=Sum("size"))["size"] or 0


def _full() -> StorageFullError:
    return StorageFullError("storage_full", "this client has stored too much; delete a file", retry_after_s=600)


@transaction.atomic
def finish_file(*, actor: str, rights: Rights, ref: str, lines: int, request_id: str) -> None:
    """The upload is whole: from now on it is a file."""
    row = File.objects.select_for_update().filter(ref=ref, client=rights.client, ready=False).first()
    if row is None:
        raise FileNotStoredError
    row.ready, row.lines = True, lines
    row.save(update_fields=["ready", "lines"])
    audit.record(
        actor=actor,
        action=Action.FILE_STORED,
        target=ref,
        client=rights.client,
        key_id=rights.key_id,
        end_user=rights.end_user,
        request_id=request_id,
        detail={"bytes": row.size, "lines": lines, "user_proved": bool(rights.end_user)},
    )


@unaudited("an upload that was never finished was never stored")
def discard_upload(*, ref: str) -> None:
    File.objects.filter(ref=ref, ready=False).delete()


@transaction.atomic
def delete_file(*, actor: str, rights: Rights, ref: str, request_id: str) -> None:
    """Forget a file that these rights reach. A batch that was made of it has its own lines by then and goes on."""
    row = File.objects.select_for_update().filter(ref=ref, client=rights.client, ready=True).first()
    if row is None:
        raise FileNotStoredError
    check_reaches(rights, selectors.file_accepted(row))
    if Batch.objects.filter(input_file=ref, state=Batch.State.VALIDATING).exists():
        raise FileInUseError("file_in_use", "a batch is being made of that file; ask again")
    row.delete()
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
