"""Makes what the slots run match the rows, one step at a time; safe to run at any moment and to kill at any line.

Decides when a new engine has proved well, when an old one has drained, and when a serving one is not well. A restart
that a GPU's fault calls for is a row of telemetry's; here it is carried out. It starts
nothing itself: it writes each slot's order, and the keeper of the slot obeys or refuses (`provisioning.launcher`).

Everything it must remember is in the rows. What it keeps in memory are monotonic clocks: a supervisor that starts
anew waits a little longer, and never believes a wall clock that jumped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from django.utils import timezone

from appliance.accounts import selectors as accounts
from appliance.changes import selectors as changes
from inference.engines import gate, slots
from inference.engines.errors import SlotError
from inference.releases import rules, selectors
from inference.releases import services as releases
from inference.releases.selectors import DeploymentView
from inference.telemetry import selectors as telemetry
from inference.telemetry import services as faults
from inference.telemetry.selectors import Restart
from provisioning.canonical import NotCanonicalError
from provisioning.site_config import Site

log = logging.getLogger(__name__)

ACTOR = "system:supervisor"
HEALTH_EVERY_S = 2.0
UNWELL_AFTER_S = 8.0
"""A serving engine silent this long is unwell; one slow answer to a health check under load is not."""

SILENT_KEEPER_S = 15.0
"""A keeper looks at its order every second; one that says nothing for this long is not there."""


class Probes(Protocol):
    """What the supervisor asks an engine; `inference.engines.vllm` answers over the slot's socket."""

    def healthy(self, slot: str) -> bool: ...

    def running(self, slot: str) -> int | None: ...

    def prove(self, slot: str, *, model: str, golden: Sequence[gate.Case]) -> gate.Proof: ...


@dataclass
class _Watch:
    """Since when this process has been looking at one deployment, and what it last saw. Monotonic seconds."""

    ordered: float | None = None
    last_well: float = 0.0
    next_look: float = 0.0
    stopping: float | None = None


@dataclass
class Supervisor:
    """One per box. `step` may be called by hand, by a loop or after a crash: it looks, and does what is left to do."""

    site: Site
    probes: Probes
    clock: Callable[[], float] = time.monotonic
    _watches: dict[int, _Watch] = field(default_factory=dict)

    def step(self) -> None:
        """Orders first, then each deployment one move further."""
        live = selectors.live_deployments()
        holders = _holders(live)
        for slot in rules.SLOTS:
            if slot not in holders and slots.withdraw(self._folder(slot)):
                log.info("order_withdrawn", extra={"slot": slot})
        self._watches = {item.id: self._watches.get(item.id, _Watch()) for item in live}
        restarts = telemetry.restarts()
        serving = [item for item in holders.values() if item.state == "serving"]
        if restarts and not serving:
            self._restarted(restarts)  # whatever starts next is a new engine anyway
        for item in holders.values():
            if restarts and item in serving and not self._stopped_for(item, restarts):
                continue
            if self._give_order(item):
                self._move(item)

    def _move(self, item: DeploymentView) -> None:
        if item.state == "starting":
            self._starting(item)
        elif item.state == "serving":
            self._serving(item)
        else:
            self._draining(item)

    def _give_order(self, item: DeploymentView) -> bool:
        """Put the order in the slot as the rows have it now; a row that cannot be ordered fails closed."""
        try:
            change, approvals = changes.signed_facts(item.change_id)
            # Only those who signed: a colleague enrolled tomorrow must not change, and so restart, what runs today.
            signers = {(approval.approver, approval.key_id) for approval in approvals}
            roster = [entry for entry in accounts.roster() if (entry.person, entry.key_id) in signers]
            data = slots.order(slot=item.slot, deployment=item.id, change=change, approvals=approvals, roster=roster)
        except NotCanonicalError:
            slots.withdraw(self._folder(item.slot))
            self._unwell(item, "change_unreadable", "the change behind this deployment was altered and cannot be read")
            return False
        if slots.give(self._folder(item.slot), data):
            log.info("order_given", extra={"slot": item.slot, "deployment": item.id})
        watch = self._watches[item.id]
        if watch.ordered is None:
            watch.ordered = watch.last_well = self.clock()
        return True

    def _stopped_for(self, item: DeploymentView, restarts: Sequence[Restart]) -> bool:
        """Take the order away until the keeper has stopped the engine, and then no longer: what is given next starts it.

        A keeper that does not answer stops nothing; it is not waited for, or its slot would stay empty for ever.
        """
        watch = self._watches[item.id]
        if watch.stopping is None:
            watch.stopping = self.clock()
            slots.withdraw(self._folder(item.slot))
            log.warning("engine_restart", extra={"slot": item.slot, "fault": restarts[0].fault.value})
            message = f"it is started again because of a fault of a GPU: {restarts[0].fault.label.lower()}"
            releases.mark_degraded(actor=ACTOR, deployment_id=item.id, code="gpu_fault", message=message)
            return False
        report = self._report(item)
        stopped = report is not None and report.ended
        if not stopped and self.clock() - watch.stopping < SILENT_KEEPER_S:
            return False
        watch.stopping = None
        self._restarted(restarts)
        return True

    def _restarted(self, restarts: Sequence[Restart]) -> None:
        faults.restarted(actor=ACTOR, restart_ids=[item.id for item in restarts])

    def _starting(self, item: DeploymentView) -> None:
        waited = self._since_order(item)
        report = self._report(item)
        if report is not None and report.ended and not report.stopped:
            code = report.code or f"engine_{report.state}"
            releases.mark_failed(actor=ACTOR, deployment_id=item.id, code=code, message=report.message)
        elif report is None and waited > SILENT_KEEPER_S:
            message = f"the keeper of slot {item.slot} does not answer; is its service running?"
            releases.mark_failed(actor=ACTOR, deployment_id=item.id, code="keeper_silent", message=message)
        elif waited > self.site.engine.start_timeout_s:
            message = f"the engine was not ready within {self.site.engine.start_timeout_s} s"
            releases.mark_failed(actor=ACTOR, deployment_id=item.id, code="start_timeout", message=message)
        elif report is not None and report.state in {"starting", "running"} and self._look(item):
            self._pass_gate(item)

    def _pass_gate(self, item: DeploymentView) -> None:
        try:
            golden = gate.cases(self.site.releases_dir / item.release_digest)
        except gate.GoldenError as error:
            releases.mark_failed(actor=ACTOR, deployment_id=item.id, code="golden_unreadable", message=str(error))
            return
        proof = self.probes.prove(item.slot, model=item.served_model_name, golden=golden)
        if proof.ok:
            releases.mark_serving(actor=ACTOR, deployment_id=item.id, gate=proof.to_dict())
        else:
            releases.mark_failed(actor=ACTOR, deployment_id=item.id, code=proof.code, message=proof.message)

    def _serving(self, item: DeploymentView) -> None:
        watch = self._watches[item.id]
        report = self._report(item)
        if report is not None and report.ended:
            self._unwell(item, report.code or f"engine_{report.state}", report.message)
        elif self.clock() < watch.next_look:
            return
        elif self._look(item):
            watch.last_well = self.clock()
            releases.mark_well(actor=ACTOR, deployment_id=item.id)
        elif self.clock() - watch.last_well > UNWELL_AFTER_S:
            state = report.state if report else "silent"
            self._unwell(item, "engine_unreachable", f"the engine does not answer; its keeper says: {state}")

    def _draining(self, item: DeploymentView) -> None:
        since = item.drain_from or item.created
        report = self._report(item)
        gone = report is not None and report.ended
        running = 0 if gone else self.probes.running(item.slot)
        if rules.drain_over(now=timezone.now(), since=since, running=running):
            message = "" if running == 0 else "its last answers were cut: the drain was over"
            releases.retire(actor=ACTOR, deployment_id=item.id, message=message)

    def _unwell(self, item: DeploymentView, code: str, message: str) -> None:
        """A starting engine has failed; a serving one is degraded; a draining one is done."""
        if item.state == "starting":
            releases.mark_failed(actor=ACTOR, deployment_id=item.id, code=code, message=message)
        elif item.state == "serving":
            releases.mark_degraded(actor=ACTOR, deployment_id=item.id, code=code, message=message)
        else:
            releases.retire(actor=ACTOR, deployment_id=item.id, message=message)

    def _look(self, item: DeploymentView) -> bool:
        """The health check, at most once in a while."""
        watch = self._watches[item.id]
        if self.clock() < watch.next_look:
            return False
        watch.next_look = self.clock() + HEALTH_EVERY_S
        return self.probes.healthy(item.slot)

    def _report(self, item: DeploymentView) -> slots.Report | None:
        """The keeper's word on this deployment; what it said about the one before counts for nothing."""
        try:
            report = slots.report(self._folder(item.slot))
        except SlotError:
            log.warning("report_unreadable", extra={"slot": item.slot})
            return None
        return report if report is not None and report.deployment == item.id else None

    def _since_order(self, item: DeploymentView) -> float:
        ordered = self._watches[item.id].ordered
        return self.clock() - ordered if ordered is not None else 0.0

    def _folder(self, slot: str) -> Path:
        return self.site.slots_dir / slot


def _holders(live: Sequence[DeploymentView]) -> dict[str, DeploymentView]:
    """Which deployment holds each slot: one that still drains comes before the one that waits for the slot."""
    holders: dict[str, DeploymentView] = {}
    for item in live:
        if item.slot not in holders or item.state == "draining":
            holders[item.slot] = item
    return holders
