"""What may be imported, activated and rolled back: values in, verdict out.

No rows, no clock, no files: the caller brings the facts. Three groups:

- floors: two records of the newest ever seen become one, and neither may be missing on a box that holds releases;
- activation: which slot, and never an older version than the one that serves (going back is its own kind of change);
- the facts a change is signed over.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from inference.policy.catalog import Capability
from inference.releases.errors import (
    ActivationRefusedError,
    FloorUnavailableError,
    ImportRefusedError,
    RollbackRefusedError,
)
from provisioning.bundle.medium import BUNDLE_NAME
from provisioning.bundle.trust import TrustState

ACTIVATE = "release.activate"
ROLL_BACK = "release.roll_back"

SLOTS = ("a", "b")

TEXT = (Capability.CHAT, Capability.COMPLETIONS)
CAPABILITIES: Mapping[str, tuple[Capability, ...]] = {"LlamaForCausalLM": TEXT, "Qwen3ForCausalLM": TEXT}
"""What a model of each architecture that a bundle may have can be asked for; one that is not listed, for nothing."""

MAX_IMPORT_ATTEMPTS = 3
"""An import whose worker died is tried again; a bundle that kills three workers is not tried a fourth time."""

LEAST_DRAIN = timedelta(seconds=5)
"""Doors hear of the switch by notification within a second; until then they may still send to the old engine."""

LONGEST_DRAIN = timedelta(seconds=120)
"""An answer still running after this is cut: the slot is needed, and the caller has a terminal error to act on."""

PROGRESS_EVERY_S = 0.5
"""A stick delivers hundreds of chunks a second; the row is written twice a second."""

FAILED_NOT_REFUSED = frozenset({"media_read_error", "storage_full", "storage_error", "import_abandoned"})
"""These say nothing against the bundle: the same one may be tried again."""


@dataclass(frozen=True)
class Standing:
    """A release that serves, or is proposed to: what the version rule needs to know of it."""

    digest: str
    name: str
    version: int


# --- floors -----------------------------------------------------------------------------------------------------


def root_version(root: bytes) -> int:
    """The version inside a root file that was verified before it was kept."""
    try:
        version = json.loads(root)["signed"]["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise FloorUnavailableError("the trusted root on record cannot be read") from error
    if type(version) is not int or version < 1:
        raise FloorUnavailableError("the trusted root on record has no version")
    return version


def higher(one: TrustState, other: TrustState) -> TrustState:
    """Field by field the newer of two records: restoring an old copy of either lowers nothing (T03)."""
    names = one.bundle_versions.keys() | other.bundle_versions.keys()
    newer_root = one if root_version(one.root) >= root_version(other.root) else other
    newer_targets = one if one.targets_version >= other.targets_version else other
    return replace(
        newer_root,
        timestamp_version=max(one.timestamp_version, other.timestamp_version),
        snapshot_version=max(one.snapshot_version, other.snapshot_version),
        targets_version=max(one.targets_version, other.targets_version),
        time_floor=max(one.time_floor, other.time_floor),
        bundle_versions={
            name: max(one.bundle_versions.get(name, 0), other.bundle_versions.get(name, 0)) for name in sorted(names)
        },
        targets_sha256=newer_targets.targets_sha256,
    )


def floors(*, row: TrustState | None, file: TrustState | None, anchor: TrustState, has_releases: bool) -> TrustState:
    """The record to judge the next bundle against; fails closed where one of the two is gone.

    `anchor` is where a box starts: the root it was installed with, and nothing seen yet.
    """
    if has_releases and row is None:
        raise FloorUnavailableError(
            "this box holds releases, but the record of their versions is gone from the database"
        )
    if has_releases and file is None:
        raise FloorUnavailableError("this box holds releases, but the record of their versions is gone from its disk")
    state = anchor
    for record in (row, file):
        if record is not None:
            state = higher(state, record)
    return state


# --- media ------------------------------------------------------------------------------------------------------


def check_medium(medium: Path, *, roots: Collection[Path]) -> None:
    """A medium is one of the site's media roots or a folder below one; nothing else on this disk is a medium.

    The caller resolves links first: a stick whose folder points at /etc is not a stick.
    """
    if not any(medium == root or root in medium.parents for root in roots):
        raise ImportRefusedError("media_unknown", "that folder is not a removable medium of this site")


def check_bundle_name(name: str) -> None:
    """A name becomes a folder name on the medium, so it must be one plain word before it is one."""
    if not BUNDLE_NAME.fullmatch(name):
        raise ImportRefusedError("bad_name", "a bundle's name is lower-case letters, digits and dashes, at most 63")


# --- activation -------------------------------------------------------------------------------------------------


def free_slot(live: Mapping[str, str]) -> str:
    """The slot for the next deployment: never the serving one's. `live` maps a deployment's state to its slot.

    The other slot may still drain: the new deployment then waits for it, at most as long as a drain may last.
    """
    if "starting" in live:
        raise ActivationRefusedError("activation_running", "another release is starting; wait for it to serve or fail")
    return next(slot for slot in SLOTS if slot != live.get("serving"))


def check_may_activate(wanted: Standing, *, serving: Standing | None) -> None:
    """Forward only: the same name must not go down, and what already serves needs no change."""
    if serving is None:
        return
    if wanted.digest == serving.digest:
        raise ActivationRefusedError("already_serving", f"{wanted.name} {wanted.version} is what serves now")
    if wanted.name == serving.name and wanted.version < serving.version:
        raise ActivationRefusedError(
            "rollback",
            f"version {wanted.version} is older than {serving.version}, which serves; going back is a roll-back change",
        )


def check_may_roll_back(wanted: Standing, *, serving: Standing | None, served_before: Collection[str]) -> None:
    """Back only to a release that two people approved once and that has answered here before."""
    if serving is None:
        raise RollbackRefusedError(
            "nothing_serving", "nothing serves, so there is nothing to go back from; activate a release"
        )
    if wanted.digest == serving.digest:
        raise RollbackRefusedError("already_serving", f"{wanted.name} {wanted.version} is what serves now")
    if wanted.digest not in served_before:
        raise RollbackRefusedError(
            "never_served", f"{wanted.name} {wanted.version} has never served here; activate it instead"
        )


def drain_over(*, now: datetime, since: datetime, running: int | None) -> bool:
    """Whether the old engine may stop: nothing runs in it any more, or it had its time. None running means unknown."""
    waited = now - since
    if waited >= LONGEST_DRAIN:
        return True
    return running == 0 and waited >= LEAST_DRAIN


def facts(
    *,
    release: Standing,
    files: Mapping[str, Mapping[str, Any]],
    engine_version: str,
    engine_lock: str,
    arguments: Collection[str],
    environment: Mapping[str, str],
    served_model_name: str,
    routes: Mapping[str, str],
    capabilities: Collection[Capability],
    evaluation: str,
) -> dict[str, Any]:
    """Everything two people sign: the bytes, the engine, how it is started, and which tasks will reach it."""
    return {
        "release": release.digest,
        "bundle": release.name,
        "version": release.version,
        "files": listed(files),
        "engine": {"version": engine_version, "lock": engine_lock},
        "arguments": list(arguments),
        "environment": dict(sorted(environment.items())),
        "served_model_name": served_model_name,
        "routes": dict(sorted(routes.items())),
        "capabilities": sorted(capabilities),
        "evaluation": {"report": evaluation},
        "slot_rule": "alternate",
    }


def listed(files: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The files of a release in the one form that is signed and compared."""
    return {path: {"length": fact["length"], "sha256": fact["sha256"]} for path, fact in sorted(files.items())}
