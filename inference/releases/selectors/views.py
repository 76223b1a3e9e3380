"""Reads for pages, commands, the LAN API and the supervisor: frozen values, never rows.

Decides what a page may ask about a bundle's life. Leaves to `rules` every judgement about what it reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.conf import settings

from inference.releases import rules
from inference.releases.errors import NotFoundError, TokenizerUnreadableError
from inference.releases.models import Deployment, Import, Release
from provisioning import bundle as bundles


@dataclass(frozen=True)
class CheckResult:
    """One line of a verdict, in the order the checks ran."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class ImportView:
    """One import with its progress, as a page shows it."""

    id: int
    media: str
    bundle: str
    state: str
    bytes_total: int
    bytes_done: int
    code: str
    message: str
    checks: tuple[CheckResult, ...]
    actor: str
    created: datetime
    started: datetime | None
    finished: datetime | None
    release_digest: str
    cancel_requested: bool

    @property
    def live(self) -> bool:
        """Whether it may still change."""
        return self.state in Import.LIVE

    @property
    def percent(self) -> int:
        """Bytes copied of bytes expected; 0 before the size is known."""
        return min(100, self.bytes_done * 100 // self.bytes_total) if self.bytes_total else 0


@dataclass(frozen=True)
class FileView:
    """One file of a release."""

    path: str
    length: int
    sha256: str


@dataclass(frozen=True)
class DeploymentView:
    """One deployment, past or present."""

    id: int
    release_digest: str
    name: str
    version: int
    change_id: int
    kind: str
    served_model_name: str
    slot: str
    state: str
    code: str
    message: str
    degraded_since: datetime | None
    gate: Mapping[str, Any]
    created: datetime
    served_at: datetime | None
    drain_from: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class ReleaseView:
    """One release as a row of the list."""

    digest: str
    name: str
    version: int
    title: str
    family: str
    received_by: str
    received_at: datetime
    withdrawn_at: datetime | None
    bytes: int
    state: str

    @property
    def short(self) -> str:
        """The first twelve digits, as people read a digest."""
        return self.digest[:12]


@dataclass(frozen=True)
class ReleaseDetail:
    """Everything a page says about one release."""

    release: ReleaseView
    manifest: Mapping[str, Any]
    files: tuple[FileView, ...]
    verdict_ok: bool
    checks: tuple[CheckResult, ...]
    deployments: tuple[DeploymentView, ...]


@dataclass(frozen=True)
class Serving:
    """What answers now: the receipt's release and change, and where the engine listens."""

    deployment_id: int
    release_digest: str
    name: str
    version: int
    title: str
    served_model_name: str
    change_id: int
    slot: str
    since: datetime
    routes: Mapping[str, str]
    capabilities: frozenset[str]
    degraded_since: datetime | None
    degraded_reason: str


@dataclass(frozen=True)
class Medium:
    """One bundle seen on a medium; nothing about it is trusted yet."""

    media: str
    bundle: str
    version: int
    bytes: int


def media() -> tuple[Medium, ...]:
    """Candidate bundles on every medium of the site, as the medium itself describes them."""
    return tuple(
        Medium(media=str(seen.medium), bundle=seen.name, version=seen.version, bytes=seen.total_bytes)
        for root in settings.SITE.media_roots
        for seen in bundles.discover(root)
    )


def imports(*, limit: int = 50) -> tuple[ImportView, ...]:
    """The newest imports first, running ones among them."""
    return tuple(import_view(row) for row in Import.objects.select_related("release")[:limit])


def import_(import_id: int) -> ImportView:
    """One import, or NotFoundError."""
    row = Import.objects.select_related("release").filter(pk=import_id).first()
    if row is None:
        raise NotFoundError("import_unknown", f"there is no import {import_id}")
    return import_view(row)


def releases() -> tuple[ReleaseView, ...]:
    """Every release on this box, by name, newest version first."""
    states = _states()
    return tuple(release_view(row, states) for row in Release.objects.all())


def release(digest: str) -> ReleaseDetail:
    """One release with its files, checks and history; the first 12 or more digits are enough where they are unique."""
    row = find(digest)
    checks = row.verdict.get("checks", [])
    return ReleaseDetail(
        release=release_view(row, _states()),
        manifest=row.manifest,
        files=tuple(FileView(path, fact["length"], fact["sha256"]) for path, fact in sorted(row.files.items())),
        verdict_ok=bool(row.verdict.get("ok")),
        checks=_checks(checks),
        deployments=tuple(_deployment(item) for item in row.deployments.select_related("release", "change")),
    )


def find(digest: str) -> Release:
    """The row for a digest or its unambiguous beginning, for this app's own services."""
    shortest = 12
    if len(digest) < shortest or not all(c in "0123456789abcdef" for c in digest):
        raise NotFoundError("release_unknown", "a release is named by at least 12 hex digits of its digest")
    rows = list(Release.objects.filter(digest__startswith=digest)[:2])
    if len(rows) != 1:
        raise NotFoundError("release_unknown", f"no single release on this box begins with {digest[:12]}")
    return rows[0]


def deployments(*, limit: int = 50) -> tuple[DeploymentView, ...]:
    """The newest deployments first."""
    return tuple(_deployment(row) for row in Deployment.objects.select_related("release", "change")[:limit])


def live_deployments() -> tuple[DeploymentView, ...]:
    """Starting, serving and draining: what the slots should hold."""
    rows = Deployment.objects.filter(state__in=Deployment.LIVE).select_related("release", "change").order_by("id")
    return tuple(_deployment(row) for row in rows)


def serving() -> Serving | None:
    """What answers now, or None: the one question of the LAN API."""
    row = Deployment.objects.filter(state=Deployment.State.SERVING).select_related("release", "change").first()
    if row is None or row.served_at is None:
        return None
    facts = row.change.facts
    return Serving(
        deployment_id=row.pk,
        release_digest=row.release.digest,
        name=row.release.name,
        version=row.release.version,
        title=row.release.title,
        served_model_name=str(facts.get("served_model_name", "")),
        change_id=row.change_id,
        slot=row.slot,
        since=row.served_at,
        routes=dict(facts.get("routes", {})),
        # A change that was signed before this was one of its facts was about text: nothing else could be served.
        capabilities=frozenset(facts.get("capabilities", rules.TEXT)),
        degraded_since=row.degraded_since,
        degraded_reason=row.message if row.degraded_since else "",
    )


@lru_cache(maxsize=4)
def control_tokens(digest: str) -> frozenset[str]:
    """What the tokenizer of an installed release reads as more than text; TokenizerUnreadableError when it cannot be had.

    A digest names one tokenizer for ever, so what was read once holds.
    """
    path = settings.SITE.releases_dir / digest / "tokenizer.json"
    try:
        return bundles.control_tokens(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TokenizerUnreadableError(
            "tokenizer_unreadable", f"the tokenizer of {digest[:12]} cannot be read"
        ) from error


def standing(row: Release) -> rules.Standing:
    """What the version rule needs to know of a release."""
    return rules.Standing(digest=row.digest, name=row.name, version=row.version)


def roll_back_target() -> Release:
    """The last release that served before the one that serves now: the one press of Flow A's last step."""
    now = Deployment.objects.filter(state=Deployment.State.SERVING).first()
    if now is None:
        raise NotFoundError("nothing_serving", "nothing serves, so there is nothing to go back from")
    before = (
        Deployment.objects.filter(served_at__isnull=False, served_at__lt=now.served_at)
        .exclude(release_id=now.release_id)
        .select_related("release")
        .order_by("-served_at")
        .first()
    )
    if before is None:
        raise NotFoundError("never_served", "no other release has served on this box yet")
    return before.release


def _states() -> dict[int, str]:
    """Release id to the state of its newest deployment, where it has one."""
    return dict(Deployment.objects.order_by("id").values_list("release_id", "state"))


def release_view(row: Release, states: Mapping[int, str]) -> ReleaseView:
    return ReleaseView(
        digest=row.digest,
        name=row.name,
        version=row.version,
        title=row.title,
        family=row.family,
        received_by=row.received_by,
        received_at=row.received_at,
        withdrawn_at=row.withdrawn_at,
        bytes=sum(fact["length"] for fact in row.files.values()),
        state=states.get(row.pk, "received"),
    )


def import_view(row: Import) -> ImportView:
    return ImportView(
        id=row.pk,
        media=row.media,
        bundle=row.bundle,
        state=row.state,
        bytes_total=row.bytes_total,
        bytes_done=row.bytes_done,
        code=row.code,
        message=row.message,
        checks=_checks(row.checks),
        actor=row.actor,
        created=row.created,
        started=row.started,
        finished=row.finished,
        release_digest=row.release.digest if row.release else "",
        cancel_requested=row.cancel_requested,
    )


def _checks(raw: Sequence[Mapping[str, Any]]) -> tuple[CheckResult, ...]:
    return tuple(CheckResult(name=c["name"], ok=bool(c["ok"]), detail=c.get("detail", "")) for c in raw)


def _deployment(row: Deployment) -> DeploymentView:
    return DeploymentView(
        id=row.pk,
        release_digest=row.release.digest,
        name=row.release.name,
        version=row.release.version,
        change_id=row.change_id,
        kind=row.change.kind,
        served_model_name=str(row.change.facts.get("served_model_name", "")),
        slot=row.slot,
        state=row.state,
        code=row.code,
        message=row.message,
        degraded_since=row.degraded_since,
        gate=row.gate,
        created=row.created,
        served_at=row.served_at,
        drain_from=row.drain_from,
        ended_at=row.ended_at,
    )
