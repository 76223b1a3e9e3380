"""Overview, queue, GPUs, alerts, staff, profile, status: what each says first, full and empty."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from appliance.accounts import selectors as accounts
from appliance.alerts import selectors as alerts
from appliance.alerts import services as alerting
from appliance.alerts.rules import Severity
from inference.clients import services as clients
from inference.policy.ask import Ask
from inference.policy.catalog import Lane
from inference.policy.rules import Rights
from inference.queue import services as queue
from inference.queue.rules import BadLine, Line
from inference.releases import selectors as releases
from inference.releases import services as deploying
from provisioning.site_config import Destination
from tests.console.conftest import Enter
from tests.console.door import records, text
from tests.inference.releases.stage import Stage

pytestmark = pytest.mark.django_db


def serve(stage: Stage) -> None:
    stage.activate(stage.receive(1))
    deploying.mark_serving(actor="test", deployment_id=releases.live_deployments()[0].id, gate={"ok": True})


def test_the_overview_of_an_empty_machine_says_that_nothing_serves_and_what_to_do(door: Enter) -> None:
    page = text(door("alice").get("/"))
    assert "No model is serving, so clinical apps get no answers." in page
    assert "Go to releases" in page
    assert "Nothing is serving" in page


def test_the_overview_names_what_serves_and_the_change_behind_it(stage: Stage, door: Enter) -> None:
    serve(stage)
    page = text(door("alice").get("/"))
    serving = releases.serving()
    assert serving
    assert f"{serving.name} {serving.version} is serving" in page
    assert f'href="/changes/{serving.change_id}"' in page
    assert serving.release_digest in page


def test_the_overview_lists_what_waits_for_this_person_and_not_for_another(stage: Stage, door: Enter) -> None:
    digest = stage.receive(1)
    assert "received and not served yet" in text(door("alice").get("/"))
    door("alice").post(f"/releases/{digest}/propose", reason="First.")
    assert "Approve or reject change" in text(door("bob").get("/"))
    assert "Approve or reject change" not in text(door("alice").get("/"))
    assert "received and not served yet" not in text(door("alice").get("/"))


def test_a_serving_engine_that_does_not_answer_is_not_called_well(stage: Stage, door: Enter) -> None:
    serve(stage)
    serving = releases.serving()
    assert serving
    deploying.mark_degraded(
        actor="test", deployment_id=serving.deployment_id, code="engine_down", message="The engine ended."
    )
    page = text(door("alice").get("/"))
    assert "The engine ended." in page
    assert "nothing is wrong" not in page


def test_what_nobody_measures_is_unknown_and_never_well(door: Enter) -> None:
    page = text(door("alice").get("/"))
    assert "Egress" in page
    assert "Not proved" in page


def test_an_alert_is_taken_on_once_and_counts_in_the_menu_until_then(door: Enter) -> None:
    alice, erin = door("alice"), door("erin")
    alerting.open_(actor="test", key="gpu.missing", severity=Severity.CRITICAL, title="0 of 1 GPUs present")
    assert "not taken on" in text(alice.get("/profile"))
    number = alerts.standing()[0].id
    alice.post(f"/alerts/{number}/acknowledge")
    response = erin.browser.post(f"/alerts/{number}/acknowledge", follow=True)
    assert "alert_taken" in text(response)
    assert alerts.standing()[0].acknowledged_by == "alice"
    assert "not taken on" not in text(alice.get("/profile"))
    assert records(actor="erin", kind="refusal")[0].outcome == "alert_taken"


def test_without_a_card_the_gpu_page_says_why(door: Enter) -> None:
    page = text(door("bob").get("/gpus"))
    assert "No GPU has been seen on this machine" in page
    assert "The sampler has never run" in page


def test_an_empty_queue_says_how_work_gets_there(door: Enter) -> None:
    page = text(door("bob").get("/queue"))
    assert "Nothing waits and nothing runs." in page
    assert "POST /v1/jobs" in page


def test_the_queue_shows_batches_their_lines_and_who_is_next_and_nothing_of_what_was_asked(door: Enter) -> None:
    rights = Rights(
        client="ward-7", key_id="iwk_00000000", tasks=frozenset({"progress_note"}), purposes=frozenset({"TREAT"}),
        lane=Lane.BATCH, phi=True,
    )  # fmt: skip
    source = queue.begin_file(rights=rights, name="Quimby.jsonl")
    queue.add_piece(ref=source, number=0, content=b"{}\n")
    queue.finish_file(actor="ward-7", rights=rights, ref=source, lines=2, request_id="r")
    ref = queue.accept_batch(actor="ward-7", rights=rights, input_file=source).ref
    page = text(door("bob").get("/queue"))
    assert (ref in page, "Being read" in page) == (True, True)
    ask = Ask(model="default", task="progress_note", purpose="TREAT", record={"plan": "Quimby"})
    given: list[Line | BadLine] = [Line(1, "Quimby", ask), BadLine(2, "invalid_json", "Quimby", custom_id="Quimby")]
    queue.expand_batch(actor="reader", ref=ref, read=lambda *_: given)
    page = text(door("bob").get("/queue/live"))
    assert (ref in page, "In progress" in page, "line 1 of a batch" in page) == (True, True, True)
    assert "Quimby" not in page


def test_roles_that_would_let_one_person_propose_and_approve_are_refused(door: Enter) -> None:
    door("bob")
    erin = door("erin")
    response = erin.browser.post("/staff/bob", {"roles": ["approver", "model_operator"]}, follow=True)
    assert "role_conflict" in text(response)
    found = accounts.person("bob")
    assert found
    assert [role.value for role in found.roles] == ["approver"]
    erin.browser.post("/staff/bob", {"roles": ["viewer"]})
    found = accounts.person("bob")
    assert found
    assert [role.value for role in found.roles] == ["viewer"]


def test_an_administrator_changes_nothing_about_themselves(door: Enter) -> None:
    erin = door("erin")
    erin.browser.post("/staff/erin", {"roles": ["auditor"]})
    erin.post("/staff/erin/deactivate")
    found = accounts.person("erin")
    assert found
    assert found.is_active
    assert [role.value for role in found.roles] == ["app_owner", "it_admin"]


def test_fields_nobody_asked_for_change_nothing(door: Enter) -> None:
    door("bob")
    door("erin").browser.post(
        "/staff/bob", {"roles": ["viewer"], "is_active": "", "is_superuser": "on", "username": "eve"}
    )
    found = accounts.person("bob")
    assert found
    assert found.is_active
    assert accounts.person("eve") is None


def test_a_chosen_look_is_kept_in_the_browser_and_an_odd_one_is_not(door: Enter) -> None:
    bob = door("bob")
    bob.post("/profile/theme", theme="dark")
    assert 'data-theme="dark"' in text(bob.get("/"))
    bob.post("/profile/theme", theme='x" onload="alert(1)')
    assert "data-theme" not in text(bob.get("/"))
    bob.browser.cookies["isoward_theme"] = '"><script>'
    assert "data-theme" not in text(bob.get("/"))


def test_anybody_may_read_where_the_model_runs_and_no_name_is_told(stage: Stage, door: Enter) -> None:
    serve(stage)
    clients.create_client(
        actor="erin",
        name="ward-7",
        title="Ward",
        owner="IT",
        tasks=["progress_note"],
        purposes=["TREAT"],
        lane="stat",
        phi=True,
    )
    before = text(Client().get("/status"))
    clients.issue_key(actor="erin", client="ward-7")
    after = text(Client().get("/status"))
    assert f"serial {stage.site.serial}" in after
    assert "No clinical apps may ask" in before
    assert "1 clinical app may ask" in after
    assert "1 of them with patient data" in after
    for name in ("ward-7", "bob", "carol"):
        assert name not in after


def test_the_three_sentences_change_with_what_is_configured(stage: Stage, settings: Settings) -> None:
    def said() -> str:
        return text(Client().get("/status"))

    assert "No model is serving now, so nothing is answered." in said()
    assert "This machine calls no other machine." in said()
    serve(stage)
    serving = releases.serving()
    assert serving
    assert f"approved by change {serving.change_id}" in said()
    deploying.mark_degraded(actor="test", deployment_id=serving.deployment_id, code="engine_down", message="It ended.")
    assert "is set to serve and does not answer now." in said()
    clients.create_client(
        actor="erin", name="lab-1", title="Lab", owner="IT", tasks=["progress_note"], purposes=["TREAT"], lane="stat",
        phi=False,
    )  # fmt: skip
    clients.issue_key(actor="erin", client="lab-1")
    assert "1 clinical app may ask, each for its registered tasks only, none of them with patient data" in said()
    clients.set_state(actor="erin", client="lab-1", active=False)
    assert "No clinical apps may ask" in said()
    allowed = Destination(network=ip_network("10.1.2.0/24"), port=443)
    settings.SITE = replace(settings.SITE, room="room 12", webhooks=(allowed,))
    assert "room 12" in said()
    assert "at 1 address of the hospital&#x27;s network" in said()
