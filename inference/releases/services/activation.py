"""Proposing that a release serve, and carrying the approved change out.

Decides what exactly people sign. Who may sign, and whether enough did, is `changes`; the launcher asks once more.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction

from appliance.audit.services import unaudited
from appliance.changes import services as changes
from appliance.changes.errors import ExecutionRefusedError
from inference.policy import catalog
from inference.releases import rules, selectors
from inference.releases.errors import ActivationRefusedError, ReleaseError
from inference.releases.models import Deployment, Release
from inference.releases.services import deployments
from provisioning.approval import ChangeFacts
from provisioning.launcher import arguments as launch
from provisioning.launcher.errors import LaunchRefusedError

EVALUATION_REPORT = "evaluation.json"
"""Where a bundle carries the report of its own evaluation; its digest is part of what is signed."""


@unaudited("changes.services.open_change records the proposal")
@transaction.atomic
def propose_activation(*, actor: str, digest: str, reason: str) -> int:
    """Open a change that makes this release serve; returns the change's number."""
    release = _proposable(digest)
    rules.check_may_activate(selectors.standing(release), serving=_serving())
    return changes.open_change(
        actor=actor, kind=rules.ACTIVATE, subject=release.digest, facts=launch_facts(release), reason=reason
    )


@unaudited("changes.services.open_change records the proposal")
@transaction.atomic
def propose_roll_back(*, actor: str, reason: str, digest: str = "") -> int:
    """Open a change that goes back: to the release that served last before this one, or to a named earlier one."""
    release = _proposable(digest or selectors.roll_back_target().digest)
    rules.check_may_roll_back(selectors.standing(release), serving=_serving(), served_before=_served_before())
    return changes.open_change(
        actor=actor, kind=rules.ROLL_BACK, subject=release.digest, facts=launch_facts(release), reason=reason
    )


@unaudited("deployments.start records the deployment, and changes records the execution")
def activate(*, actor: str, change: ChangeFacts) -> None:
    """Carry out an approved change inside the transaction that checked its signatures; refuses, and all is undone."""
    try:
        release = Release.objects.filter(digest=change.subject).first()
        if release is None:
            raise ActivationRefusedError("release_unknown", "the release this change is about is not on this box")
        if change.facts["release"] != release.digest or change.facts["files"] != rules.listed(release.files):
            raise ActivationRefusedError("facts_mismatch", "the change describes other files than the release has")
        deployments.start(actor=actor, release=release, change_id=change.id, roll_back=change.kind == rules.ROLL_BACK)
    except ReleaseError as error:
        refused = ExecutionRefusedError(error.message)
        refused.code = error.code
        raise refused from error


@unaudited("reads only; the change that carries these facts is recorded")
def launch_facts(release: Release) -> dict[str, Any]:
    """What a change about this release is signed over, as this box would start it today."""
    python = settings.SITE.engine.python
    try:
        defaults = launch.default(settings.SITE, selectors.standing(release))
        version, lock = launch.engine_version(python), launch.engine_lock(python)
    except LaunchRefusedError as error:
        raise ActivationRefusedError(error.code, error.message) from error
    report = release.files.get(EVALUATION_REPORT, {})
    return rules.facts(
        release=selectors.standing(release),
        files=release.files,
        engine_version=version,
        engine_lock=lock,
        arguments=defaults.arguments,
        environment=defaults.environment,
        served_model_name=defaults.served_model_name,
        routes=dict.fromkeys(catalog.TASKS, defaults.served_model_name),
        capabilities=rules.CAPABILITIES.get(str(release.manifest.get("architecture")), ()),
        evaluation=report.get("sha256", ""),
    )


def _proposable(digest: str) -> Release:
    """The release, if nothing about it stands in the way of asking people."""
    release = selectors.find(digest)
    if release.withdrawn_at is not None:
        raise ActivationRefusedError("withdrawn", f"{release.name} {release.version} was withdrawn")
    if not release.verdict.get("ok"):
        code = release.verdict.get("code") or "verdict_not_ok"
        raise ActivationRefusedError(code, release.verdict.get("message") or "the verdict on this release is not good")
    return release


def _serving() -> rules.Standing | None:
    row = Deployment.objects.filter(state=Deployment.State.SERVING).select_related("release").first()
    return selectors.standing(row.release) if row else None


def _served_before() -> set[str]:
    return set(Deployment.objects.filter(served_at__isnull=False).values_list("release__digest", flat=True))
