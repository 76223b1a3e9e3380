"""An import from the press of the button to a release, or to a refusal that says why.

Decides the order: row, copy into a folder of its own, checks, store, release row. Leaves to `provisioning.bundle` every
question about the bytes, and to `floors` what is new enough.

What keeps it whole when a worker dies at any line:
- the worker holds an advisory lock of its database session: gone the moment the process is, with no clock involved;
- every write of the worker names its attempt, so one that lost its claim writes nothing more;
- nothing enters the store but by one rename, and a folder there without a release row is swept away.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from inference.releases import rules
from inference.releases.errors import ImportLostError, ImportRefusedError, NotFoundError, ReleaseError
from inference.releases.models import Import, Release
from inference.releases.services import floors
from provisioning import bundle as bundles

log = logging.getLogger(__name__)

LOCK_CLASS = 0x15_0A
"""The first half of the advisory lock's key, so that no other part of the box takes the same number."""


def start_import(*, actor: str, media: str, bundle: str) -> int:
    """Queue one import and return its number; the caller rings `tasks.run_import` after the commit."""
    medium = Path(media).resolve()
    rules.check_medium(medium, roots=[root.resolve() for root in settings.SITE.media_roots])
    rules.check_bundle_name(bundle)
    try:
        with transaction.atomic():
            row = Import.objects.create(media=str(medium), bundle=bundle, actor=actor)
            audit.record(
                actor=actor, action=Action.IMPORT_STARTED, target=f"import:{row.pk}", detail={"bundle": bundle}
            )
    except IntegrityError as error:
        # The constraint is the real check: two people may press at once.
        raise ImportRefusedError("import_running", f"an import of {bundle} is already running") from error
    return row.pk


@transaction.atomic
def cancel_import(*, actor: str, import_id: int) -> None:
    """Ask a running import to stop, or end one that still waits."""
    row = Import.objects.select_for_update().filter(pk=import_id).first()
    if row is None:
        raise NotFoundError("import_unknown", f"there is no import {import_id}")
    if row.state not in Import.LIVE:
        raise ImportRefusedError("import_ended", f"import {import_id} has already ended: {row.state}")
    row.cancel_requested = True
    if row.state == Import.State.QUEUED:
        row.state = Import.State.CANCELLED
        row.finished = timezone.now()
    row.save(update_fields=["cancel_requested", "state", "finished"])
    audit.record(actor=actor, action=Action.IMPORT_CANCELLED, target=f"import:{row.pk}", detail={"bundle": row.bundle})


@unaudited("each way it can end is recorded by the service that ends it")
def run_import(import_id: int) -> None:
    """Do the import, unless another worker has it or it has ended; whatever happens, the row says so."""
    with _lock(import_id) as held:
        if not held:
            return
        claimed = Import.objects.filter(pk=import_id, state=Import.State.QUEUED).update(
            state=Import.State.COPYING, attempt=F("attempt") + 1, started=timezone.now(), bytes_done=0, checks=[]
        )
        if not claimed:
            return
        row = Import.objects.get(pk=import_id)
        try:
            _receive(row)
        except ImportLostError:
            log.warning("import_lost", extra={"import": import_id, "attempt": row.attempt})
        except bundles.BundleError as error:
            _end(row, code=error.code, message=str(error), checks=_checks_of(error))
        except ReleaseError as error:
            _end(row, code=error.code, message=error.message, checks=[])
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            message = (
                "the disk for releases is full"
                if full
                else "a file could not be read or written; nothing was installed"
            )
            _end(row, code="storage_full" if full else "storage_error", message=message, checks=[])


@unaudited("finds what dead workers left; the imports it ends are recorded")
def sweep_imports() -> tuple[int, ...]:
    """End or re-queue what lost its worker, remove what it left on disk; returns the imports that wait for a bell."""
    for row in Import.objects.filter(state__in=[Import.State.COPYING, Import.State.CHECKING]):
        with _lock(row.pk) as held:
            if held:
                _worker_died(row)
    _sweep_quarantine()
    _sweep_store()
    return tuple(Import.objects.filter(state=Import.State.QUEUED).values_list("pk", flat=True))


@unaudited("names a folder, and touches nothing")
def quarantine_of(import_id: int) -> Path:
    """The folder that belongs to one import and to nothing else."""
    return Path(settings.SITE.quarantine_dir) / f"import-{import_id}"


def _receive(row: Import) -> None:
    quarantine = quarantine_of(row.pk)
    quarantine.parent.mkdir(parents=True, exist_ok=True)
    watch = _Watch(row)
    received = bundles.receive(
        Path(row.media),
        bundle=row.bundle,
        quarantine=quarantine,
        trust=floors.current(),
        now=timezone.now(),
        progress=watch.progress,
        cancelled=watch.cancelled,
    )
    _check_new(received)
    _update(row, state=Import.State.CHECKING, checks=_checks(received.verdict))
    store = Path(settings.SITE.releases_dir)
    store.mkdir(parents=True, exist_ok=True)
    if (store / received.digest).exists() and not Release.objects.filter(digest=received.digest).exists():
        # A worker died between the rename and the commit: complete, but nobody recorded it.
        _clean(store / received.digest)
    bundles.install(quarantine, store, received.digest)
    _record(row, received)


def _check_new(received: bundles.Received) -> None:
    """Refuse what is here already, and another content under a name and version that is here already."""
    if Release.objects.filter(digest=received.digest).exists():
        raise ImportRefusedError(
            "already_installed", f"this very release is already on the box: {received.digest[:12]}"
        )
    manifest = received.manifest
    if Release.objects.filter(name=manifest.name, version=manifest.version).exists():
        raise ImportRefusedError(
            "version_conflict", f"{manifest.name} {manifest.version} is already on the box with other content"
        )


@transaction.atomic
def _record(row: Import, received: bundles.Received) -> None:
    """The release, the floors, the end of the import and the audit record: one commit."""
    with connection.cursor() as cursor:
        # Two imports may finish at once; each must judge and lift the floors the other left.
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [LOCK_CLASS])
    manifest = received.manifest
    known = floors.current()
    if manifest.version < known.bundle_versions.get(manifest.name, 0):
        raise ImportRefusedError("rollback", f"{manifest.name} {manifest.version} is older than one received meanwhile")
    release = Release.objects.create(
        digest=received.digest,
        name=manifest.name,
        version=manifest.version,
        title=manifest.title,
        family=manifest.family,
        manifest=dict(manifest.raw),
        files={fact.path: {"length": fact.length, "sha256": fact.sha256} for fact in received.files},
        verdict=received.verdict.to_dict(),
        received_by=row.actor,
    )
    _update(row, state=Import.State.DONE, finished=timezone.now(), release=release)
    floors.keep(state=rules.higher(known, received.trust))
    audit.record(
        actor=row.actor,
        action=Action.RELEASE_RECEIVED,
        target=f"import:{row.pk}",
        release=release.digest,
        detail={"name": release.name, "version": release.version},
    )


def _end(row: Import, *, code: str, message: str, checks: list[dict[str, Any]]) -> None:
    """Close an import that brought nothing in, and record why."""
    cancelled = Import.objects.filter(pk=row.pk, cancel_requested=True).exists() and code in {"", "cancelled"}
    if cancelled:
        state = Import.State.CANCELLED
    elif code in rules.FAILED_NOT_REFUSED:
        state = Import.State.FAILED
    else:
        state = Import.State.REFUSED
    try:
        with transaction.atomic():
            _update(row, state=state, code=code, message=message[:1000], checks=checks, finished=timezone.now())
            if not cancelled:
                audit.record(
                    actor=row.actor,
                    action=Action.IMPORT_REFUSED,
                    kind="refusal",
                    target=f"import:{row.pk}",
                    outcome=code,
                    detail={"bundle": row.bundle},
                )
    except ImportLostError:
        # Its folder belongs to whoever has the import now.
        log.warning("import_lost", extra={"import": row.pk, "attempt": row.attempt})
        return
    _clean(quarantine_of(row.pk))


def _worker_died(row: Import) -> None:
    """Nobody holds the import: start it over, or give up on it after the last attempt."""
    row.refresh_from_db()
    if row.state not in {Import.State.COPYING, Import.State.CHECKING}:
        return
    if row.cancel_requested:
        _end(row, code="cancelled", message="cancelled", checks=[])
    elif row.attempt >= rules.MAX_IMPORT_ATTEMPTS:
        _end(row, code="import_abandoned", message="the import stopped three times without an answer", checks=[])
    else:
        # What it copied stays: whole files are hashed again on our own disk instead of read again from the medium.
        _update(row, state=Import.State.QUEUED, bytes_done=0)
        log.warning("import_requeued", extra={"import": row.pk, "attempt": row.attempt})


class _Watch:
    """What the copy calls back: writes progress and reads the cancel flag, both at most twice a second."""

    def __init__(self, row: Import) -> None:
        self._row = row
        self._next_write = 0.0
        self._next_read = 0.0
        self._cancelled = False

    def progress(self, done: int, total: int) -> None:
        if time.monotonic() < self._next_write and done < total:
            return
        self._next_write = time.monotonic() + rules.PROGRESS_EVERY_S
        # The last byte is here: what follows is looking inside.
        state = Import.State.CHECKING if done >= total else Import.State.COPYING
        _update(self._row, bytes_done=done, bytes_total=total, state=state)

    def cancelled(self) -> bool:
        if not self._cancelled and time.monotonic() >= self._next_read:
            self._next_read = time.monotonic() + rules.PROGRESS_EVERY_S
            self._cancelled = Import.objects.filter(pk=self._row.pk, cancel_requested=True).exists()
        return self._cancelled


def _update(row: Import, **fields: Any) -> None:
    """Write to the row only while this attempt still owns it."""
    mine = Import.objects.filter(pk=row.pk, attempt=row.attempt, state__in=Import.LIVE)
    if not mine.update(**fields):
        raise ImportLostError


@contextmanager
def _lock(import_id: int) -> Iterator[bool]:
    """Hold the import for as long as this database session lives; yields False when another session holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK_CLASS, import_id])
        held = bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held and connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_CLASS, import_id])


def _sweep_quarantine() -> None:
    live = {quarantine_of(pk).name for pk in Import.objects.filter(state__in=Import.LIVE).values_list("pk", flat=True)}
    folder = Path(settings.SITE.quarantine_dir)
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name not in live:
            _clean(entry)


def _sweep_store() -> None:
    """Remove complete folders nobody recorded; never while an import may be between its rename and its commit."""
    store = Path(settings.SITE.releases_dir)
    entries = list(store.iterdir()) if store.is_dir() else []
    if Import.objects.filter(state=Import.State.CHECKING).exists():
        return
    recorded = set(Release.objects.values_list("digest", flat=True))
    for entry in entries:
        if entry.name not in recorded:
            _clean(entry)


def _clean(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _checks(verdict: bundles.Verdict) -> list[dict[str, Any]]:
    checks: list[dict[str, Any]] = verdict.to_dict()["checks"]
    return checks


def _checks_of(error: bundles.BundleError) -> list[dict[str, Any]]:
    verdict = getattr(error, "verdict", None)
    return _checks(verdict) if isinstance(verdict, bundles.Verdict) else []


__all__ = ["cancel_import", "quarantine_of", "run_import", "start_import", "sweep_imports"]
