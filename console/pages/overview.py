"""Overview: is the machine well, and does anything need me.

One sentence first, from the same states the panels below print; then what waits for this person; then the parts.
What nobody measures yet is said to be unknown, never well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from appliance.accounts.permissions import Permission
from appliance.alerts.rules import Alert
from appliance.audit import selectors as log
from appliance.audit.actions import Action
from appliance.changes import selectors as changes
from console import access, current
from console.pages.tasks import routed
from inference.queue import selectors as queue
from inference.releases import selectors as releases
from inference.telemetry import selectors as telemetry

# The sealer signs every second; past this its silence is worth a person's look.
_SEAL_LATE = timedelta(seconds=60)
_HOUR = timedelta(hours=1)
_RANK = {"well": 0, "unknown": 1, "degraded": 2, "failed": 3}


@dataclass(frozen=True)
class Part:
    """One part of the machine in a line: shape, word, and the fact behind it."""

    label: str
    level: str
    word: str
    says: str
    page: str


@dataclass(frozen=True)
class Hour:
    """What clinical apps got in the last hour."""

    answered: int
    failed: int
    refused: int


@dataclass(frozen=True)
class Task:
    """Something that waits for this person."""

    says: str
    where: str
    since: Any


# Said as it is: these parts are not in this version, and what nobody measured is not well.
UNPROVED = (
    Part("Egress", "unknown", "Not proved", "No proof that nothing leaves has been recorded on this machine.", ""),
    Part("Backups", "unknown", "None", "No backup has been recorded on this machine.", ""),
)


@access.requires(Permission.OVERVIEW_VIEW)
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The first page after sign-in."""
    return render(request, "console/overview/page.html", _context(request))


@access.requires(Permission.OVERVIEW_VIEW)
@require_GET
def live(request: HttpRequest) -> HttpResponse:
    """The same without the shell."""
    return render(request, "console/overview/_now.html", _context(request))


def _context(request: HttpRequest) -> dict[str, Any]:
    serving, standing, now = current.of(request).serving, current.of(request).alerts, timezone.now()
    # What starts beside something that serves is not printed here, so it is not asked for.
    starting = [] if serving else [item for item in releases.live_deployments() if item.state == "starting"]
    parts = (
        _serving_part(serving),
        _alert_part(standing),
        _gpu_part(telemetry.sampler()),
        _audit_part(log.head()),
        *UNPROVED,
    )
    return {
        "serving": serving,
        "starting": starting,
        "parts": parts,
        "level": max((part.level for part in parts), key=lambda level: _RANK[level]),
        "sentence": _sentence(parts, serving),
        "tasks": _tasks(request, standing),
        "hour": _hour(log.counts(since=now - _HOUR)),
        "line": queue.depth(),
        "as_of": now,
        "routed": routed(serving),
        "may_see_tasks": access.may(request, Permission.TASK_VIEW),
        "may_see_changes": access.may(request, Permission.CHANGE_VIEW),
    }


def _sentence(parts: tuple[Part, ...], serving: releases.Serving | None) -> str:
    """The whole machine in one sentence; the worst part is named first."""
    failed = [part for part in parts if part.level == "failed"]
    degraded = [part for part in parts if part.level == "degraded"]
    if serving is None:
        return "No model is serving, so clinical apps get no answers."
    if failed or degraded:
        worst = (failed or degraded)[0]
        return f"{serving.name} {serving.version} is serving. {worst.label}: {worst.says}"
    return f"{serving.name} {serving.version} is serving and nothing is wrong that this machine can see."


def _serving_part(serving: releases.Serving | None) -> Part:
    if serving is None:
        return Part("Model", "failed", "Nothing serves", "No release is active.", "releases")
    if serving.degraded_since:
        return Part(
            "Model", "degraded", "Not answering", serving.degraded_reason or "The engine does not answer.", "releases"
        )
    return Part("Model", "well", "Serving", f"{serving.name} {serving.version} in slot {serving.slot}.", "releases")


def _alert_part(standing: tuple[Alert, ...]) -> Part:
    if not standing:
        return Part("Alerts", "well", "None open", "No fault stands.", "alerts")
    critical = [alert for alert in standing if alert.severity.value == "critical"]
    first = standing[0]
    return Part("Alerts", "failed" if critical else "degraded", f"{len(standing)} open", f"{first.title}.", "alerts")


def _gpu_part(sampler: telemetry.Sampler) -> Part:
    if not sampler.alive:
        return Part("GPUs", "unknown", "Not being read", f"{sampler.reason[:1].upper()}{sampler.reason[1:]}.", "gpus")
    if sampler.expected == 0 and sampler.present == 0:
        return Part("GPUs", "unknown", "None expected", "The engine runs on the processor.", "gpus")
    if sampler.reason or sampler.present < sampler.expected:
        says = f"{sampler.present} of {sampler.expected} expected cards can be read."
        return Part("GPUs", "failed", "Missing", says, "gpus")
    return Part("GPUs", "well", "Present", f"{sampler.present} of {sampler.expected} expected cards present.", "gpus")


def _audit_part(head: log.Head) -> Part:
    if head.at is None:
        return Part("Audit", "unknown", "Not sealed yet", "The sealer has signed no head.", "audit")
    waits = timezone.now() - head.oldest_unsealed_at if head.oldest_unsealed_at else timedelta(0)
    if waits > _SEAL_LATE:
        return Part("Audit", "degraded", "Seal is late", f"{head.unsealed} records wait for the sealer.", "audit")
    return Part("Audit", "well", "Sealed", f"{head.size} records under a signed head.", "audit")


def _hour(counts: Mapping[tuple[str, str], int]) -> Hour:
    ended = {outcome: number for (action, outcome), number in counts.items() if action == Action.INFERENCE_ANSWERED}
    refusing = {Action.INFERENCE_REFUSED, Action.PHI_UNAUTHORIZED_ATTEMPT}
    refused = sum(number for (action, _), number in counts.items() if action in refusing)
    return Hour(answered=ended.get("ok", 0), failed=sum(ended.values()) - ended.get("ok", 0), refused=refused)


def _tasks(request: HttpRequest, standing: tuple[Alert, ...]) -> list[Task]:
    tasks: list[Task] = []
    if access.may(request, Permission.CHANGE_APPROVE):
        tasks += [
            Task(f"Approve or reject change {item.id}: {item.label}", reverse("change", args=[item.id]), item.opened_at)
            for item in current.of(request).my_changes
        ]
    if access.may(request, Permission.ALERT_ACKNOWLEDGE):
        tasks += [
            Task(f"Take on the alert: {alert.title}", reverse("alerts"), alert.opened_at)
            for alert in standing
            if not alert.acknowledged_by
        ]
    if access.may(request, Permission.CHANGE_PROPOSE):
        undecided = changes.undecided_subjects()
        tasks += [
            Task(
                f"Propose {item.name} {item.version}, received and not served yet",
                reverse("release", args=[item.digest]),
                item.received_at,
            )
            for item in releases.never_proposed()
            if item.digest not in undecided
        ]
    return tasks
