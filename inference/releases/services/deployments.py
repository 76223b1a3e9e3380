"""From an approved change to a serving release and back: every change of a deployment's state.

Decides who serves. Knows nothing of engines: the supervisor follows these rows, and asks for the next step here.

Two things keep "one serves" true: every service here takes the same lock before it looks, and the database has a
constraint for each rule should a writer forget to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from appliance.alerts import services as alerts
from appliance.alerts.rules import Severity
from appliance.audit import services as audit
from appliance.audit.actions import Action
from inference.releases import rules, selectors
from inference.releases.errors import ActivationRefusedError
from inference.releases.models import Deployment, Release
from inference.releases.services.imports import LOCK_CLASS

DEGRADED = "engine.degraded"
FAILED = "deployment.failed"
"""The keys of the two alerts this file opens and closes."""

CHANNEL = "isoward_serving"
"""Whoever answers requests listens here and reads the row again; a lost notification costs them one poll."""

State = Deployment.State


@transaction.atomic
def mark_serving(*, actor: str, deployment_id: int, gate: Mapping[str, Any]) -> bool:
    """The new engine proved well: it serves from this commit on, the one before drains. False: it no longer starts."""
    _one_at_a_time()
    row = _in_state(deployment_id, State.STARTING)
    if row is None:
        return False
    now = timezone.now()
    # First the old one down, then the new one up: the other way round meets the constraint.
    Deployment.objects.filter(state=State.SERVING).update(state=State.DRAINING, drain_from=now, degraded_since=None)
    Deployment.objects.filter(pk=row.pk).update(
        state=State.SERVING, served_at=now, gate=dict(gate), message="", code=""
    )
    _tell(row)
    for key in (DEGRADED, FAILED):
        alerts.close(actor=actor, key=key, reason=f"deployment {row.pk} serves")
    _record(row, actor=actor, action=Action.DEPLOYMENT_SERVING, detail={"slot": row.slot, "gate": dict(gate)})
    return True


@transaction.atomic
def mark_failed(*, actor: str, deployment_id: int, code: str, message: str) -> bool:
    """The new engine did not prove well; what served before never stopped."""
    _one_at_a_time()
    row = _in_state(deployment_id, State.STARTING)
    if row is None:
        return False
    Deployment.objects.filter(pk=row.pk).update(
        state=State.FAILED, code=code[:60], message=message[:1000] or code, ended_at=timezone.now()
    )
    _tell(row)
    title = f"{row.release.name} {row.release.version} did not start"
    alerts.open_(actor=actor, key=FAILED, severity=Severity.WARNING, title=title, detail=f"{code}: {message}")
    _record(row, actor=actor, action=Action.DEPLOYMENT_FAILED, outcome=code, detail={"slot": row.slot})
    return True


@transaction.atomic
def mark_degraded(*, actor: str, deployment_id: int, code: str, message: str) -> bool:
    """It should serve and does not. It stays the serving one: nobody agreed to another. False: known already."""
    _one_at_a_time()
    row = _in_state(deployment_id, State.SERVING)
    if row is None or (row.degraded_since is not None and row.code == code):
        return False
    Deployment.objects.filter(pk=row.pk).update(
        degraded_since=row.degraded_since or timezone.now(), code=code[:60], message=message[:1000] or code
    )
    _tell(row)
    title = f"{row.release.name} {row.release.version} should serve and does not"
    alerts.open_(actor=actor, key=DEGRADED, severity=Severity.CRITICAL, title=title, detail=f"{code}: {message}")
    _record(row, actor=actor, action=Action.DEPLOYMENT_DEGRADED, outcome=code, detail={"slot": row.slot})
    return True


@transaction.atomic
def mark_well(*, actor: str, deployment_id: int) -> bool:
    """The serving engine answers again. False: it was not known to be unwell."""
    _one_at_a_time()
    row = _in_state(deployment_id, State.SERVING)
    if row is None or row.degraded_since is None:
        return False
    Deployment.objects.filter(pk=row.pk).update(degraded_since=None, code="", message="")
    _tell(row)
    alerts.close(actor=actor, key=DEGRADED, reason="the engine answers again")
    _record(row, actor=actor, action=Action.DEPLOYMENT_RECOVERED, detail={"slot": row.slot})
    return True


@transaction.atomic
def retire(*, actor: str, deployment_id: int, message: str) -> bool:
    """The drained engine may stop. False: it does not drain."""
    _one_at_a_time()
    row = _in_state(deployment_id, State.DRAINING)
    if row is None:
        return False
    Deployment.objects.filter(pk=row.pk).update(state=State.RETIRED, message=message[:1000], ended_at=timezone.now())
    _tell(row)
    _record(row, actor=actor, action=Action.DEPLOYMENT_RETIRED, detail={"slot": row.slot})
    return True


def start(*, actor: str, release: Release, change_id: int, roll_back: bool) -> Deployment:
    """The row of a new deployment in the free slot; the executor's own transaction and checks are around it."""
    _one_at_a_time()
    live = dict(Deployment.objects.filter(state__in=Deployment.LIVE).values_list("state", "slot"))
    serving = Deployment.objects.filter(state=State.SERVING).select_related("release").first()
    now = selectors.standing(serving.release) if serving else None
    wanted = selectors.standing(release)
    if release.withdrawn_at is not None:
        raise ActivationRefusedError("withdrawn", f"{wanted.name} {wanted.version} was withdrawn")
    if roll_back:
        before = set(Deployment.objects.filter(served_at__isnull=False).values_list("release__digest", flat=True))
        rules.check_may_roll_back(wanted, serving=now, served_before=before)
    else:
        rules.check_may_activate(wanted, serving=now)
    row = Deployment.objects.create(release=release, change_id=change_id, slot=rules.free_slot(live))
    _tell(row)
    _record(row, actor=actor, action=Action.DEPLOYMENT_STARTED, detail={"slot": row.slot, "roll_back": roll_back})
    return row


def _one_at_a_time() -> None:
    """Everything that decides who serves stands in one line, from the first look to the commit."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 1)", [LOCK_CLASS])


def _in_state(deployment_id: int, state: str) -> Deployment | None:
    return Deployment.objects.filter(pk=deployment_id, state=state).select_related("release").first()


def _tell(row: Deployment) -> None:
    """Delivered at commit, dropped with a rollback."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(row.pk)])


def _record(row: Deployment, *, actor: str, action: Action, detail: Mapping[str, Any], outcome: str = "ok") -> None:
    audit.record(
        actor=actor,
        action=action,
        outcome=outcome,
        target=f"deployment:{row.pk}",
        change_id=row.change_id,
        release=row.release.digest,
        detail=detail,
    )
