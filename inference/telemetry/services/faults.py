"""What follows from a fault: its event, its alert, what is done to the card or the engine, and what people then do.

Whether something is wrong, and what is done about it, is decided in rules. Nothing here calls the engine or admission:
a hold and a restart are rows, which admission and the supervisor read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db import transaction
from django.utils import timezone

from appliance.alerts import selectors as standing_alerts
from appliance.alerts import services as alerts
from appliance.audit import services as audit
from appliance.audit.actions import Action as Act
from appliance.audit.services import unaudited
from appliance.changes import services as changes
from appliance.changes.errors import ExecutionRefusedError
from inference.telemetry import rules, selectors
from inference.telemetry.errors import NoSuchCardError, NoSuchEventError, PolicyError
from inference.telemetry.models import EngineRestart, FaultPolicy, Gpu, XidEvent
from provisioning.approval import ChangeFacts

POLICY_KIND = "gpu.fault_policy"
_HELD = {
    rules.Hold.NONE: Act.GPU_RELEASED,
    rules.Hold.DRAINED: Act.GPU_DRAINED,
    rules.Hold.QUARANTINED: Act.GPU_QUARANTINED,
}


@unaudited("a fault report is the card's own; the alert, the hold and the restart it leads to are recorded")
@transaction.atomic
def hear(*, reports: Sequence[rules.Report]) -> int:
    """Keep each report, one row for each fault whoever told of it. Returns how many were news."""
    known = set(
        XidEvent.objects.filter(token__in=[r.token for r in reports if r.token]).values_list("token", flat=True)
    )
    places = {rules.pci_place(gpu.pci): gpu for gpu in Gpu.objects.all()} if reports else {}
    news = 0
    for report in reports:
        if report.token in known:
            continue
        event = rules.same(report, selectors.events_near(report))
        if event is None:
            XidEvent.objects.create(
                gpu=places.get(report.place),
                place=report.place,
                xid=report.xid,
                at=report.at,
                by_driver=report.source is rules.Source.DRIVER,
                by_kernel=report.source is rules.Source.KERNEL,
                token=report.token,
            )
            news += 1
        elif report.source is rules.Source.KERNEL:
            XidEvent.objects.filter(pk=event.id).update(by_kernel=True, token=report.token)
        else:
            XidEvent.objects.filter(pk=event.id).update(by_driver=True)
    return news


@unaudited("alerts.open_ and alerts.close record each one, as this actor")
@transaction.atomic
def settle(*, actor: str, findings: Sequence[rules.Finding]) -> None:
    """Make the open GPU alerts exactly these findings. alerts.open_ and alerts.close write the audit rows."""
    standing = {alert.key: alert for alert in standing_alerts.standing() if alert.key.startswith(rules.PREFIX)}
    for finding in findings:
        alert = standing.pop(finding.key, None)
        if alert and alert.detail == finding.detail and alert.severity.rank >= finding.severity.rank:
            continue
        alerts.open_(
            actor=actor, key=finding.key, severity=finding.severity, title=finding.title, detail=finding.detail
        )
    for key in standing:
        alerts.close(actor=actor, key=key, reason="no longer seen")


@transaction.atomic
def act(
    *, actor: str, faults: Sequence[rules.Fault], policy: Mapping[rules.FaultClass, rules.Line]
) -> tuple[rules.Decision, ...]:
    """Do what the policy says about each card: hold it, let it go, or have the engine started again."""
    decisions = []
    for gpu in Gpu.objects.select_for_update().order_by("pk"):
        mine = [fault for fault in faults if fault.uuid == gpu.uuid]
        decision = rules.decide(mine, policy, held=rules.Hold(gpu.held))
        for fault in decision.restarts:
            _ask_restart(actor=actor, gpu=gpu, fault=fault)
        if decision.hold != gpu.held:
            kind = decision.fault.value if decision.fault else ""
            _hold(actor=actor, gpu=gpu, hold=decision.hold, fault=kind, reason=decision.reason)
        decisions.append(decision)
    return tuple(decisions)


@transaction.atomic
def requalify(*, actor: str, uuid: str) -> None:
    """A person lets a quarantined card take work again; refused while the check finds anything."""
    gpu = Gpu.objects.select_for_update().filter(uuid=uuid).first()
    if gpu is None or gpu.held != rules.Hold.QUARANTINED:
        raise NoSuchCardError("no card of this identity is quarantined")
    view = selectors.one(uuid)
    rules.check_can_requalify(
        present=view.present,
        reading=view.latest,
        health=view.health,
        faults=selectors.blocking_faults(uuid),
        now=timezone.now(),
    )
    gpu.held, gpu.held_since, gpu.held_fault, gpu.held_reason = "", None, "", ""
    gpu.save(update_fields=["held", "held_since", "held_fault", "held_reason"])
    audit.record(actor=actor, action=Act.GPU_REQUALIFIED, target=f"gpu:{uuid}")


@transaction.atomic
def acknowledge_event(*, actor: str, event_id: int) -> None:
    """Somebody has looked at this fault; its alert closes at the sampler's next turn. Twice changes nothing."""
    event = XidEvent.objects.select_for_update().filter(pk=event_id).first()
    if event is None:
        raise NoSuchEventError(f"there is no fault report {event_id}")
    if event.acknowledged_at is not None:
        return
    event.acknowledged_by, event.acknowledged_at = actor, timezone.now()
    event.save(update_fields=["acknowledged_by", "acknowledged_at"])
    audit.record(
        actor=actor, action=Act.GPU_EVENT_ACKNOWLEDGED, target=f"gpu-event:{event_id}", detail={"xid": event.xid}
    )


@unaudited("changes.services.open_change records the proposal")
def propose_policy(*, actor: str, fault: str, action: str, reason: str) -> int:
    """Open a change that sets what is done about one kind of fault; returns its number."""
    if fault not in set(rules.FaultClass) or action not in set(rules.Action):
        raise PolicyError("that is no kind of fault, or no action")
    kind = rules.FaultClass(fault)
    was = selectors.policy()[kind].action
    if was == action:
        raise PolicyError(f"the policy says {was.label.lower()} for that already")
    facts = {"fault": kind.value, "action": action, "was": was.value}
    return changes.open_change(
        actor=actor, kind=POLICY_KIND, subject=f"gpu-policy:{kind.value}", facts=facts, reason=reason
    )


@transaction.atomic
def set_policy(*, actor: str, change: ChangeFacts) -> None:
    """Carry out an approved change of the policy; refused when the line is no longer what its approvers saw."""
    fault, action, was = (str(change.facts[name]) for name in ("fault", "action", "was"))
    if fault not in set(rules.FaultClass) or action not in set(rules.Action):
        raise ExecutionRefusedError("the change names no kind of fault or no action that this version knows")
    if selectors.policy()[rules.FaultClass(fault)].action != was:
        raise ExecutionRefusedError(f"the policy for {fault} is no longer {was}; propose again")
    reason = f"Set by change {change.id}; before, it was {rules.Action(was).label.lower()}."
    FaultPolicy.objects.update_or_create(
        fault=fault,
        defaults={"action": action, "reason": reason, "change_id": change.id, "since": timezone.now()},
    )
    audit.record(
        actor=actor,
        action=Act.GPU_POLICY_SET,
        target=change.subject,
        change_id=change.id,
        detail={"action": action, "was": was},
    )


@transaction.atomic
def restarted(*, actor: str, restart_ids: Sequence[int]) -> None:
    """The supervisor has seen the engine stop for these; its order is given again after this."""
    for row in EngineRestart.objects.select_for_update().filter(pk__in=restart_ids, done_at__isnull=True):
        row.done_at = timezone.now()
        row.save(update_fields=["done_at"])
        audit.record(actor=actor, action=Act.ENGINE_RESTARTED, target=f"gpu:{row.uuid}", detail={"fault": row.fault})


def _hold(*, actor: str, gpu: Gpu, hold: rules.Hold, fault: str, reason: str) -> None:
    gpu.held, gpu.held_fault = hold.value, fault if hold else ""
    gpu.held_since = timezone.now() if hold else None
    gpu.held_reason = reason[:300] if hold else ""
    gpu.save(update_fields=["held", "held_since", "held_fault", "held_reason"])
    audit.record(actor=actor, action=_HELD[hold], target=f"gpu:{gpu.uuid}", detail={"fault": fault})


def _ask_restart(*, actor: str, gpu: Gpu, fault: rules.Fault) -> None:
    """Once for each occasion; one that is asked for already covers what came meanwhile."""
    if not fault.occasion or EngineRestart.objects.filter(occasion=fault.occasion).exists():
        return
    EngineRestart.objects.create(
        occasion=fault.occasion, uuid=gpu.uuid, fault=fault.kind.value, asked_at=timezone.now()
    )
    audit.record(
        actor=actor, action=Act.ENGINE_RESTART_ASKED, target=f"gpu:{gpu.uuid}", detail={"fault": fault.kind.value}
    )
