"""The two records of the newest ever seen: the row, and a copy in the state folder.

Decides how they are read and written. Which of them counts is `rules.floors`. The file is always written before the
row is committed: a crash between the two leaves the file higher, never missing, and the higher wins.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings

from appliance.audit.services import unaudited
from inference.releases import rules
from inference.releases.errors import FloorUnavailableError
from inference.releases.models import Release, TrustRecord
from provisioning import canonical
from provisioning.bundle.errors import BundleError
from provisioning.bundle.trust import TrustState, initial
from provisioning.durable import replace_whole

FORMAT = "isoward-trust-floor-v1"
LARGEST_FILE = 1_000_000


@unaudited("names a file, and touches nothing")
def path() -> Path:
    """Where the copy lies: beside the store, not in the database's own folder."""
    return Path(settings.SITE.state_dir) / "trust-floor.json"


@unaudited("reads only")
def anchor() -> TrustState:
    """Where this box started: the root it was installed with, and nothing seen yet."""
    try:
        root = Path(settings.SITE.trust_root).read_bytes()
    except OSError as error:
        raise FloorUnavailableError("the trusted root this box was installed with cannot be read") from error
    return initial(root)


@unaudited("reads only")
def current() -> TrustState:
    """The floors the next bundle is judged against, or FloorUnavailableError."""
    row = TrustRecord.objects.filter(pk=1).first()
    return rules.floors(
        row=_from_row(row) if row else None,
        file=_read(path()),
        anchor=anchor(),
        has_releases=Release.objects.exists(),
    )


@unaudited("bookkeeping of an import; the import itself is recorded")
def keep(*, state: TrustState) -> None:
    """Write both records; `state` is at least `current()`, and the caller's transaction records the release."""
    _write(path(), state)
    TrustRecord.objects.update_or_create(
        pk=1,
        defaults={
            "root": state.root,
            "timestamp_version": state.timestamp_version,
            "snapshot_version": state.snapshot_version,
            "targets_version": state.targets_version,
            "time_floor": state.time_floor,
            "bundle_versions": dict(state.bundle_versions),
            "targets_sha256": state.targets_sha256,
        },
    )


def _from_row(row: TrustRecord) -> TrustState:
    return TrustState(
        root=bytes(row.root),
        timestamp_version=row.timestamp_version,
        snapshot_version=row.snapshot_version,
        targets_version=row.targets_version,
        time_floor=row.time_floor,
        bundle_versions=row.bundle_versions,
        targets_sha256=row.targets_sha256,
    )


def _read(file: Path) -> TrustState | None:
    """The copy, None where there is none; one that cannot be read is never treated as none."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FloorUnavailableError("the record of versions on this box's disk cannot be read") from error
    try:
        body: dict[str, Any] = json.loads(raw)
        stated = body.pop("digest")
        if body.get("format") != FORMAT or canonical.digest(body) != stated:
            raise FloorUnavailableError("the record of versions on this box's disk is damaged")
        return TrustState.from_dict(body["state"])
    except (BundleError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FloorUnavailableError("the record of versions on this box's disk is damaged") from error


def _write(file: Path, state: TrustState) -> None:
    """New bytes under the old name, whole or not at all, also after a power cut."""
    body: dict[str, Any] = {"format": FORMAT, "state": state.to_dict()}
    body["digest"] = canonical.digest(body)
    replace_whole(file, canonical.dumps(body), mode=0o600)
