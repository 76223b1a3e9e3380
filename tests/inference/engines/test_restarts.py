"""A GPU's fault that calls for a new start: the supervisor empties the slot, waits for the keeper, gives the order again."""

from __future__ import annotations

import pytest
from django.utils import timezone

from inference.engines import supervisor
from inference.engines.supervisor import SILENT_KEEPER_S, Supervisor
from inference.releases import selectors
from inference.telemetry import rules
from inference.telemetry import selectors as telemetry
from inference.telemetry import services as faults
from provisioning.site_config import Site
from tests.console.door import records
from tests.inference.engines.test_supervisor import Answers, order, say, started
from tests.inference.releases.stage import Stage

pytestmark = pytest.mark.django_db

CARD = rules.Card(uuid="GPU-1", index=0, name="H200", serial="1", pci="00000000:3B:00.0", memory_total=200)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def watch(here: Site, answers: Answers, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Supervisor:
    monkeypatch.setattr(supervisor, "HEALTH_EVERY_S", 0.0)
    return Supervisor(here, answers)


def contained() -> None:
    """XID 94 on the one card, and what the policy makes of it."""
    now = timezone.now()
    faults.store(cards=[CARD], readings=[rules.Reading(uuid=CARD.uuid, at=now)], at=now)
    faults.hear(reports=[rules.Report(94, "0000:3b:00", now, rules.Source.DRIVER)])
    act()


def act() -> None:
    events = telemetry.open_events()
    faults.act(actor="sampler", faults=rules.faults_of((), events), policy=telemetry.policy())


def test_the_engine_is_stopped_and_started_once_for_one_fault(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    deployment = started(stage, watch, answers, stage.receive(1))
    before = order(here, "a")
    contained()
    act()

    watch.step()
    assert order(here, "a") is None
    serving = selectors.serving()
    assert serving is not None
    assert serving.degraded_since is not None
    watch.step()
    assert order(here, "a") is None, "the keeper has not stopped it yet"

    say(here, "a", "exited", code="stopped", deployment=deployment)
    watch.step()
    assert order(here, "a") == before
    assert telemetry.restarts() == ()
    act()
    watch.step()
    assert order(here, "a") == before, "the same fault does not restart it twice"
    assert [row.target for row in records(action="engine.restarted")] == ["gpu:GPU-1"]


def test_a_keeper_that_does_not_answer_is_not_waited_for_for_ever(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    started(stage, watch, answers, stage.receive(1))
    contained()
    clock = [1000.0]
    watch.clock = lambda: clock[0]
    watch.step()
    clock[0] += SILENT_KEEPER_S - 1
    watch.step()
    assert order(here, "a") is None
    clock[0] += 2
    watch.step()
    assert order(here, "a") is not None


def test_where_nothing_serves_a_wanted_restart_is_done_already(here: Site, watch: Supervisor) -> None:
    contained()
    assert len(telemetry.restarts()) == 1
    watch.step()
    assert telemetry.restarts() == ()
