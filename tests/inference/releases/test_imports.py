"""Imports: what comes in, what is refused and why, and nothing half-installed however the import ends."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import IntegrityError, transaction

from appliance.audit import selectors as audit
from inference.releases import selectors, services
from inference.releases.errors import ImportRefusedError, NotFoundError
from inference.releases.models import Import, Release, TrustRecord
from inference.releases.services import floors
from inference.releases.services.imports import LOCK_CLASS, quarantine_of
from provisioning.site_config import Site
from tests.inference.releases.stage import BUNDLE, Stage

pytestmark = pytest.mark.django_db


def actions() -> list[str]:
    return [entry.action for entry in audit.search(audit.Query())]


def stored(here: Site) -> list[str]:
    return sorted(entry.name for entry in here.releases_dir.iterdir()) if here.releases_dir.is_dir() else []


def left_in_quarantine(here: Site) -> list[str]:
    return sorted(entry.name for entry in here.quarantine_dir.iterdir()) if here.quarantine_dir.is_dir() else []


def test_a_signed_bundle_becomes_a_release(here: Site, stage: Stage) -> None:
    import_id = stage.run_import(1)
    done = selectors.import_(import_id)
    assert (done.state, done.code, done.percent) == ("done", "", 100)
    assert done.checks
    assert all(check.ok for check in done.checks)

    detail = selectors.release(done.release_digest)
    assert (detail.release.name, detail.release.version, detail.release.received_by) == (BUNDLE, 1, "alice")
    assert stored(here) == [done.release_digest]
    for file in detail.files:
        installed = here.releases_dir / done.release_digest / file.path
        assert installed.stat().st_size == file.length
        assert installed.stat().st_mode & 0o777 == 0o440
    assert left_in_quarantine(here) == []
    assert {"import.started", "release.received"} <= set(actions())


def test_a_flipped_byte_is_refused_and_leaves_nothing(here: Site, stage: Stage) -> None:
    medium = stage.medium(1)
    weights = medium / "targets" / BUNDLE / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused = selectors.import_(stage.run_import(1))
    assert (refused.state, refused.code) == ("refused", "digest_mismatch")
    assert "model.safetensors" in refused.message
    assert selectors.releases() == ()
    assert stored(here) == []
    assert left_in_quarantine(here) == []
    entry = audit.search(audit.Query())[0]
    assert (entry.action, entry.outcome) == ("import.refused", "digest_mismatch")


def test_the_same_bundle_again_is_already_installed(here: Site, stage: Stage) -> None:
    digest = stage.receive(1)
    again = selectors.import_(stage.run_import(1))
    assert (again.state, again.code) == ("refused", "already_installed")
    assert stored(here) == [digest]


def test_an_older_bundle_is_refused_and_a_newer_one_is_not(here: Site, stage: Stage) -> None:
    stage.receive(2)
    older = selectors.import_(stage.run_import(1))
    assert (older.state, older.code) == ("refused", "rollback")
    stage.receive(3)
    assert [item.version for item in selectors.releases()] == [3, 2]


def test_a_restored_old_database_does_not_bring_the_old_floors_back(stage: Stage) -> None:
    stage.receive(1)
    old = dict(TrustRecord.objects.values().get())
    stage.receive(2)
    TrustRecord.objects.filter(pk=1).update(**{key: value for key, value in old.items() if key != "id"})
    Import.objects.filter(release__version=2).delete()
    Release.objects.filter(version=2).delete()
    refused = selectors.import_(stage.run_import(1))
    assert (refused.state, refused.code) == ("refused", "catalogue_rollback")


@pytest.mark.parametrize("damage", ["file gone", "file cut", "file edited", "row gone"])
def test_without_its_record_of_versions_the_box_accepts_nothing(stage: Stage, damage: str) -> None:
    stage.receive(1)
    file = floors.path()
    if damage == "file gone":
        file.unlink()
    elif damage == "file cut":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "file edited":
        body = json.loads(file.read_text())
        body["state"]["bundle_versions"][BUNDLE] = 0
        file.write_text(json.dumps(body))
    else:
        TrustRecord.objects.all().delete()
    refused = selectors.import_(stage.run_import(2))
    assert (refused.state, refused.code) == ("refused", "floor_unavailable")
    assert [item.version for item in selectors.releases()] == [1]


def test_only_a_medium_of_the_site_can_be_imported_from(stage: Stage, tmp_path: Path) -> None:
    for outside in (tmp_path, Path("/etc")):
        with pytest.raises(ImportRefusedError) as refused:
            services.start_import(actor="alice", media=str(outside), bundle=BUNDLE)
        assert refused.value.code == "media_unknown"


def test_a_link_on_the_medium_that_leads_off_it_is_no_medium(stage: Stage, tmp_path: Path) -> None:
    link = settings.SITE.media_roots[0] / "stick"
    link.symlink_to(tmp_path)
    with pytest.raises(ImportRefusedError) as refused:
        services.start_import(actor="alice", media=str(link), bundle=BUNDLE)
    link.unlink()
    assert refused.value.code == "media_unknown"


def test_one_bundle_is_imported_once_at_a_time(stage: Stage) -> None:
    first = stage.start_import(1)
    with pytest.raises(ImportRefusedError) as refused:
        stage.start_import(1)
    assert refused.value.code == "import_running"
    services.cancel_import(actor="alice", import_id=first)
    assert stage.start_import(1) != first


def test_a_waiting_import_is_cancelled_at_once(stage: Stage) -> None:
    import_id = stage.start_import(1)
    services.cancel_import(actor="alice", import_id=import_id)
    assert selectors.import_(import_id).state == "cancelled"
    services.run_import(import_id)
    assert selectors.import_(import_id).state == "cancelled"
    with pytest.raises(ImportRefusedError):
        services.cancel_import(actor="alice", import_id=import_id)
    with pytest.raises(NotFoundError):
        services.cancel_import(actor="alice", import_id=import_id + 999)


def test_a_running_import_stops_when_asked_and_leaves_nothing(here: Site, stage: Stage) -> None:
    import_id = stage.start_import(1)
    Import.objects.filter(pk=import_id).update(cancel_requested=True)
    services.run_import(import_id)
    assert selectors.import_(import_id).state == "cancelled"
    assert stored(here) == []
    assert left_in_quarantine(here) == []


def test_an_import_whose_worker_lives_is_left_alone_and_one_whose_worker_died_starts_over(
    here: Site, stage: Stage
) -> None:
    import_id = stage.start_import(1)
    Import.objects.filter(pk=import_id).update(state="copying", attempt=1)
    with psycopg.connect(here.postgres.conninfo(here.postgres.app_role), autocommit=True) as worker:
        worker.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_CLASS, import_id])
        assert services.sweep_imports() == ()
        services.run_import(import_id)
        assert selectors.import_(import_id).state == "copying"
    assert services.sweep_imports() == (import_id,)
    services.run_import(import_id)
    assert selectors.import_(import_id).state == "done"


def test_a_bundle_that_kills_three_workers_is_given_up(stage: Stage) -> None:
    import_id = stage.start_import(1)
    for attempt in (1, 2):
        Import.objects.filter(pk=import_id).update(state="copying", attempt=attempt)
        assert services.sweep_imports() == (import_id,)
    Import.objects.filter(pk=import_id).update(state="copying", attempt=3)
    assert services.sweep_imports() == ()
    ended = selectors.import_(import_id)
    assert (ended.state, ended.code) == ("failed", "import_abandoned")


def test_what_dead_imports_left_on_disk_is_swept_and_what_is_recorded_stays(here: Site, stage: Stage) -> None:
    digest = stage.receive(1)
    waiting = stage.start_import(2)
    quarantine_of(waiting).mkdir(parents=True)
    (here.quarantine_dir / "import-99999").mkdir()
    (here.releases_dir / ("f" * 64)).mkdir()
    services.sweep_imports()
    assert stored(here) == [digest]
    assert left_in_quarantine(here) == [quarantine_of(waiting).name]


def test_a_release_renamed_into_the_store_but_never_recorded_does_not_block_its_import(
    here: Site, stage: Stage
) -> None:
    digest = stage.receive(1)
    Import.objects.all().delete()
    Release.objects.all().delete()
    assert stored(here) == [digest]
    assert stage.receive(1) == digest


def test_a_worker_that_lost_its_import_writes_nothing_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    import_id = stage.start_import(1)
    real = floors.current

    def taken_over() -> object:
        Import.objects.filter(pk=import_id).update(attempt=7)
        return real()

    monkeypatch.setattr(floors, "current", taken_over)
    services.run_import(import_id)
    row = selectors.import_(import_id)
    assert row.state == "copying"
    assert selectors.releases() == ()


@pytest.mark.parametrize(
    "bad",
    [
        {"state": "lost"},
        {"state": "done"},
        {"state": "refused", "code": ""},
        {"state": "copying", "finished": "2026-11-22T12:00:00Z"},
    ],
)
def test_the_database_refuses_an_import_that_cannot_be(stage: Stage, bad: dict[str, str]) -> None:
    import_id = stage.start_import(1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Import.objects.filter(pk=import_id).update(**bad)


def test_media_are_listed_as_they_describe_themselves(stage: Stage) -> None:
    stage.medium(1)
    found = selectors.media()
    assert [(item.bundle, item.version) for item in found] == [(BUNDLE, 1)]
    assert found[0].bytes > 0
