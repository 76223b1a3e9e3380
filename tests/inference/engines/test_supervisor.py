"""The supervisor: rows in, orders out; a new engine serves only when proved well, and the old one never stops for it.

The keeper's reports and the engine's answers are given here by the test; tests/flows runs the real ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from appliance.accounts import services as accounts
from appliance.alerts import selectors as alerts
from inference.engines import gate, supervisor
from inference.engines.supervisor import Supervisor
from inference.releases import selectors
from inference.releases.models import Deployment
from provisioning.site_config import Site
from tests.inference.releases.stage import Stage

pytestmark = pytest.mark.django_db


GOOD = gate.Proof(ok=True, code="", message="proved", cases=1, milliseconds=5)


@dataclass
class Answers:
    """What the engines of this test say."""

    well: set[str] = field(default_factory=set)
    busy: dict[str, int | None] = field(default_factory=dict)
    proof: gate.Proof = GOOD
    asked: list[str] = field(default_factory=list)

    def healthy(self, slot: str) -> bool:
        return slot in self.well

    def running(self, slot: str) -> int | None:
        return self.busy.get(slot, 0)

    def prove(self, slot: str, *, model: str, golden: Sequence[gate.Case]) -> gate.Proof:
        self.asked.append(model)
        return self.proof


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def watch(here: Site, answers: Answers, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Supervisor:
    monkeypatch.setattr(supervisor, "HEALTH_EVERY_S", 0.0)
    return Supervisor(here, answers)


def order(here: Site, slot: str) -> dict[str, Any] | None:
    file = here.slots_dir / slot / "order.json"
    return json.loads(file.read_text()) if file.exists() else None


def say(here: Site, slot: str, state: str, *, code: str = "", message: str = "", deployment: int | None = None) -> None:
    """What the slot's keeper reports about the order that lies there."""
    if deployment is None:
        given = order(here, slot)
        assert given is not None
        deployment = int(str(given["deployment"]))
    body = {"deployment": deployment, "state": state, "code": code, "message": message}
    (here.slots_dir / slot / "report.json").write_text(json.dumps(body))


def started(stage: Stage, watch: Supervisor, answers: Answers, digest: str) -> int:
    """A release brought to serving, step by step."""
    deployment = stage.activate(digest)
    watch.step()
    say(watch.site, stage.slot(deployment), "running")
    answers.well.add(stage.slot(deployment))
    watch.step()
    assert stage.state(deployment) == "serving"
    return deployment


def age_drain(deployment: int, seconds: int) -> None:
    """As if the drain had begun earlier."""
    Deployment.objects.filter(pk=deployment).update(drain_from=timezone.now() - timedelta(seconds=seconds))


def test_without_a_deployment_every_slot_is_empty(here: Site, watch: Supervisor) -> None:
    (here.slots_dir / "a").mkdir(parents=True, exist_ok=True)
    (here.slots_dir / "a" / "order.json").write_text("{}")
    watch.step()
    assert order(here, "a") is None
    assert order(here, "b") is None


def test_an_approved_release_is_ordered_and_serves_when_it_is_proved_well(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    deployment = stage.activate(stage.receive(1))
    watch.step()
    given = order(here, "a")
    assert given is not None
    assert given["deployment"] == deployment
    assert {item["approver"] for item in given["approvals"]} == {"bob", "carol"}
    assert stage.state(deployment) == "starting"

    say(here, "a", "verifying")
    watch.step()
    say(here, "a", "running")
    watch.step()
    assert stage.state(deployment) == "starting", "a process is not yet an engine that answers"

    answers.well.add("a")
    watch.step()
    serving = selectors.serving()
    assert serving is not None
    assert serving.deployment_id == deployment
    assert answers.asked == [serving.served_model_name]
    assert selectors.deployments()[0].gate["ok"] is True


def test_steps_repeated_change_nothing(here: Site, stage: Stage, watch: Supervisor, answers: Answers) -> None:
    started(stage, watch, answers, stage.receive(1))
    before = (here.slots_dir / "a" / "order.json").stat().st_mtime_ns
    for _ in range(3):
        watch.step()
        Supervisor(here, answers).step()
    assert (here.slots_dir / "a" / "order.json").stat().st_mtime_ns == before
    assert len(selectors.live_deployments()) == 1


def test_the_old_one_serves_until_the_new_one_is_proved_and_then_drains_and_goes(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    old = started(stage, watch, answers, stage.receive(1))
    new = stage.activate(stage.receive(2))
    watch.step()
    assert order(here, "a") is not None
    assert order(here, "b") is not None
    assert stage.state(old) == "serving"

    say(here, "b", "running")
    answers.well.add("b")
    answers.busy["a"] = 2
    watch.step()
    assert (stage.state(old), stage.state(new)) == ("draining", "serving")
    age_drain(old, 30)
    watch.step()
    assert stage.state(old) == "draining", "two answers still run in it"
    assert order(here, "a") is not None

    answers.busy["a"] = 0
    watch.step()
    assert stage.state(old) == "retired"
    watch.step()
    assert order(here, "a") is None
    assert order(here, "b") is not None


def test_a_refused_start_fails_with_its_reason_and_the_old_one_never_stops(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    old = started(stage, watch, answers, stage.receive(1))
    new = stage.activate(stage.receive(2))
    watch.step()
    say(here, "b", "refused", code="file_changed", message="model.safetensors is not the file that was approved")
    watch.step()
    watch.step()
    failed = selectors.deployments()[0]
    assert (failed.id, failed.state, failed.code) == (new, "failed", "file_changed")
    assert "model.safetensors" in failed.message
    assert stage.state(old) == "serving"
    assert order(here, "b") is None
    assert "deployment.failed" in alerts.standing_keys()


def test_a_report_about_another_deployment_counts_for_nothing(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    deployment = stage.activate(stage.receive(1))
    watch.step()
    say(here, "a", "refused", code="old", deployment=deployment + 100)
    watch.step()
    assert stage.state(deployment) == "starting"


@pytest.mark.parametrize(("reports", "code"), [(True, "start_timeout"), (False, "keeper_silent")])
def test_an_engine_that_does_not_come_up_in_time_fails(
    here: Site, stage: Stage, watch: Supervisor, *, reports: bool, code: str
) -> None:
    deployment = stage.activate(stage.receive(1))
    watch.step()
    if reports:
        say(here, "a", "starting")
    watch.clock = lambda: time.monotonic() + here.engine.start_timeout_s + 20
    watch.step()
    assert stage.state(deployment) == "failed"
    assert selectors.deployments()[0].code == code


def test_an_engine_that_answers_its_golden_prompt_wrongly_does_not_serve(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    answers.proof = gate.Proof(
        ok=False, code="golden_mismatch", message="1 of 4 facts are missing", cases=1, milliseconds=9
    )
    answers.well.add("a")
    deployment = stage.activate(stage.receive(1))
    watch.step()
    say(here, "a", "running")
    watch.step()
    assert stage.state(deployment) == "failed"
    assert selectors.serving() is None
    assert selectors.deployments()[0].code == "golden_mismatch"


def test_a_serving_engine_that_is_refused_is_shown_as_degraded_and_recovers(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    deployment = started(stage, watch, answers, stage.receive(1))
    say(here, "a", "refused", code="approval_signature", message="the approval by bob does not match this change")
    watch.step()
    serving = selectors.serving()
    assert serving is not None
    assert serving.degraded_since is not None
    assert "bob" in serving.degraded_reason
    assert "engine.degraded" in alerts.standing_keys()
    assert stage.state(deployment) == "serving", "nobody agreed to another"

    say(here, "a", "running")
    watch.step()
    serving = selectors.serving()
    assert serving is not None
    assert serving.degraded_since is None
    assert "engine.degraded" not in alerts.standing_keys()


def test_one_missed_health_check_is_no_fault_and_many_are(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    started(stage, watch, answers, stage.receive(1))
    answers.well.clear()
    watch.step()
    serving = selectors.serving()
    assert serving is not None
    assert serving.degraded_since is None
    watch.clock = lambda: time.monotonic() + supervisor.UNWELL_AFTER_S + 1
    watch.step()
    serving = selectors.serving()
    assert serving is not None
    assert serving.degraded_since is not None


def test_a_colleague_enrolled_later_does_not_change_what_runs(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    started(stage, watch, answers, stage.receive(1))
    before = (here.slots_dir / "a" / "order.json").read_bytes()
    accounts.create_person(
        actor="erin", username="frank", display_name="Frank", password="frank-has-a-long-password", roles=["approver"]
    )
    watch.step()
    assert (here.slots_dir / "a" / "order.json").read_bytes() == before


def test_a_flag_changed_by_sql_reaches_the_launcher_as_another_digest(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    deployment = started(stage, watch, answers, stage.receive(1))
    before = order(here, "a")
    change_id = next(item.change_id for item in selectors.live_deployments() if item.id == deployment)
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE changes_change SET facts = jsonb_set(facts, '{served_model_name}', '"other"') WHERE id = %s""",
            [change_id],
        )
    watch.step()
    after = order(here, "a")
    assert before is not None
    assert after is not None
    assert before["change"]["digest"] != after["change"]["digest"]
    assert before["approvals"] == after["approvals"]


def test_facts_that_cannot_be_signed_at_all_empty_the_slot(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    started(stage, watch, answers, stage.receive(1))
    with connection.cursor() as cursor:
        cursor.execute("""UPDATE changes_change SET facts = jsonb_set(facts, '{version}', '1.5')""")
    watch.step()
    assert order(here, "a") is None
    serving = selectors.serving()
    assert serving is not None
    assert serving.degraded_since is not None


def test_the_next_release_waits_for_a_slot_that_still_drains(
    here: Site, stage: Stage, watch: Supervisor, answers: Answers
) -> None:
    first = started(stage, watch, answers, stage.receive(1))
    answers.busy["a"] = 1
    second = started(stage, watch, answers, stage.receive(2))
    third = stage.activate(stage.receive(3))
    watch.step()
    given = order(here, "a")
    assert given is not None
    assert given["deployment"] == first
    assert (stage.state(first), stage.state(second), stage.state(third)) == ("draining", "serving", "starting")

    age_drain(first, 121)
    watch.step()
    watch.step()
    given = order(here, "a")
    assert given is not None
    assert given["deployment"] == third
    assert stage.state(first) == "retired"


def test_golden_prompts_come_from_the_installed_release(tmp_path: Path) -> None:
    assert gate.cases(tmp_path) == ()
    (tmp_path / "golden.json").write_text(json.dumps({"renders": []}))
    assert gate.cases(tmp_path) == ()
    case = {"task": "progress_note", "record": {"age": 61}, "must_contain": ["61"], "max_tokens": 50}
    (tmp_path / "golden.json").write_text(json.dumps({"format": "isoward-golden-v1", "cases": [case] * 9}))
    cases = gate.cases(tmp_path)
    assert len(cases) == gate.MOST_CASES
    assert cases[0].must_contain == ("61",)
    for bad in ("[", json.dumps({"format": "other", "cases": []}), json.dumps({"format": gate.FORMAT, "cases": [{}]})):
        (tmp_path / "golden.json").write_text(bad)
        with pytest.raises(gate.GoldenError):
            gate.cases(tmp_path)
