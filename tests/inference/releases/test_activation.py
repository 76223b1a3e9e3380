"""Proposing, carrying out and going back: what is signed, who serves, and what the database refuses by itself."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from appliance.changes import selectors as changes
from inference.releases import rules, selectors, services
from inference.releases.errors import ActivationRefusedError, NotFoundError, RollbackRefusedError
from inference.releases.models import Deployment, Release
from provisioning.launcher import arguments
from provisioning.site_config import Site
from tests.inference.releases.stage import BUNDLE, Stage

pytestmark = pytest.mark.django_db

PROOF = {"ok": True}


def serve(stage: Stage, digest: str) -> int:
    deployment = stage.activate(digest)
    assert services.mark_serving(actor="test", deployment_id=deployment, gate=PROOF)
    return deployment


def retire_drained(stage: Stage) -> None:
    for item in selectors.live_deployments():
        if item.state == "draining":
            services.retire(actor="test", deployment_id=item.id, message="")


def test_what_people_sign_names_every_byte_the_engine_and_how_it_is_started(here: Site, stage: Stage) -> None:
    digest = stage.receive(1)
    change = changes.change(services.propose_activation(actor="alice", digest=digest, reason="first"))
    assert change is not None
    facts = change.facts
    assert change.subject == facts["release"] == digest
    assert (facts["bundle"], facts["version"]) == (BUNDLE, 1)
    assert facts["files"] == {
        file.path: {"length": file.length, "sha256": file.sha256} for file in selectors.release(digest).files
    }
    assert facts["engine"]["lock"] == arguments.engine_lock(here.engine.python)
    assert facts["engine"]["version"] == arguments.engine_version(here.engine.python)
    assert facts["arguments"]
    assert facts["environment"]
    assert set(facts["routes"].values()) == {facts["served_model_name"]}
    assert "progress_note" in facts["routes"]
    assert facts["capabilities"] == ["chat", "completions"]


def test_nothing_starts_before_the_second_approval(stage: Stage) -> None:
    change_id = services.propose_activation(actor="alice", digest=stage.receive(1), reason="first")
    stage.approve("bob", change_id)
    assert selectors.deployments() == ()
    stage.approve("carol", change_id)
    deployment = selectors.deployments()[0]
    assert (deployment.state, deployment.slot, deployment.change_id) == ("starting", "a", change_id)


def test_a_change_is_carried_out_once(stage: Stage) -> None:
    deployment = stage.activate(stage.receive(1))
    row = Deployment.objects.get(pk=deployment)
    with pytest.raises(IntegrityError), transaction.atomic():
        Deployment.objects.create(release=row.release, change=row.change, slot="b", state="starting")


def test_the_second_version_takes_the_other_slot_and_the_first_drains(stage: Stage) -> None:
    one = serve(stage, stage.receive(1))
    two = stage.activate(stage.receive(2))
    assert stage.slot(two) == "b"
    assert stage.state(one) == "serving"
    assert services.mark_serving(actor="test", deployment_id=two, gate=PROOF)
    assert (stage.state(one), stage.state(two)) == ("draining", "serving")
    serving = selectors.serving()
    assert serving is not None
    assert serving.version == 2
    assert serving.routes["progress_note"] == serving.served_model_name
    assert serving.capabilities == {"chat", "completions"}


def test_an_older_version_is_refused_at_the_proposal_and_again_when_it_is_carried_out(stage: Stage) -> None:
    one, two = stage.receive(1), stage.receive(2)
    early = services.propose_activation(actor="alice", digest=one, reason="the old one, proposed early")
    serve(stage, two)
    with pytest.raises(ActivationRefusedError) as refused:
        services.propose_activation(actor="alice", digest=one, reason="back, by the wrong door")
    assert refused.value.code == "rollback"

    stage.approve("bob", early)
    stage.approve("carol", early)
    change = changes.change(early)
    assert change is not None
    assert change.state == "failed"
    assert "roll-back" in change.message
    serving = selectors.serving()
    assert serving is not None
    assert serving.version == 2


def test_going_back_is_a_change_of_its_own_to_what_served_before(stage: Stage) -> None:
    serve(stage, stage.receive(1))
    serve(stage, stage.receive(2))
    retire_drained(stage)
    change_id = services.propose_roll_back(actor="alice", reason="two is worse")
    change = changes.change(change_id)
    assert change is not None
    assert (change.kind, change.facts["version"]) == (rules.ROLL_BACK, 1)
    stage.approve("bob", change_id)
    stage.approve("carol", change_id)
    back = selectors.deployments()[0]
    assert services.mark_serving(actor="test", deployment_id=back.id, gate=PROOF)
    serving = selectors.serving()
    assert serving is not None
    assert (serving.version, serving.change_id) == (1, change_id)


def test_there_is_no_way_back_to_what_never_served(stage: Stage) -> None:
    one = stage.receive(1)
    with pytest.raises(NotFoundError):
        services.propose_roll_back(actor="alice", reason="nothing serves")
    serve(stage, stage.receive(2))
    with pytest.raises(NotFoundError):
        services.propose_roll_back(actor="alice", reason="nothing served before")
    with pytest.raises(RollbackRefusedError) as refused:
        services.propose_roll_back(actor="alice", digest=one, reason="one never served")
    assert refused.value.code == "never_served"


def test_while_one_release_starts_no_other_does(stage: Stage) -> None:
    one, two = stage.receive(1), stage.receive(2)
    stage.activate(one)
    change_id = services.propose_activation(actor="alice", digest=two, reason="second")
    stage.approve("bob", change_id)
    stage.approve("carol", change_id)
    change = changes.change(change_id)
    assert change is not None
    assert change.state == "failed"
    assert len(selectors.live_deployments()) == 1


def test_a_release_without_a_good_verdict_is_not_proposed(stage: Stage) -> None:
    digest = stage.receive(1)
    verdict = {
        "ok": False,
        "code": "needs_template_review",
        "message": "the template looks at what is said",
        "checks": [],
    }
    Release.objects.filter(digest=digest).update(verdict=verdict)
    with pytest.raises(ActivationRefusedError) as refused:
        services.propose_activation(actor="alice", digest=digest, reason="first")
    assert refused.value.code == "needs_template_review"


def test_files_altered_in_the_record_after_the_proposal_are_not_activated(stage: Stage) -> None:
    digest = stage.receive(1)
    change_id = services.propose_activation(actor="alice", digest=digest, reason="first")
    files = dict(Release.objects.get(digest=digest).files)
    files["config.json"] = {"length": 1, "sha256": "0" * 64}
    Release.objects.filter(digest=digest).update(files=files)
    stage.approve("bob", change_id)
    stage.approve("carol", change_id)
    change = changes.change(change_id)
    assert change is not None
    assert change.state == "failed"
    assert selectors.deployments() == ()


def test_a_state_is_left_once_and_by_its_own_service_only(stage: Stage) -> None:
    deployment = stage.activate(stage.receive(1))
    assert not services.retire(actor="test", deployment_id=deployment, message="")
    assert not services.mark_degraded(actor="test", deployment_id=deployment, code="x", message="x")
    assert services.mark_failed(actor="test", deployment_id=deployment, code="refused", message="why")
    assert not services.mark_serving(actor="test", deployment_id=deployment, gate=PROOF)
    assert not services.mark_failed(actor="test", deployment_id=deployment, code="refused", message="again")
    assert selectors.deployments()[0].message == "why"


def test_a_failed_release_may_be_tried_again(stage: Stage) -> None:
    digest = stage.receive(1)
    services.mark_failed(actor="test", deployment_id=stage.activate(digest), code="start_timeout", message="slow")
    assert stage.state(stage.activate(digest)) == "starting"


def test_the_database_holds_one_serving_one_starting_and_one_per_slot(stage: Stage) -> None:
    one = serve(stage, stage.receive(1))
    two = stage.activate(stage.receive(2))
    now = timezone.now()
    for pk, fields in (
        (two, {"state": "serving", "served_at": now}),
        (one, {"state": "starting"}),
        (two, {"slot": "a"}),
        (two, {"slot": "c"}),
        (two, {"state": "paused"}),
        (two, {"state": "failed", "ended_at": now}),
        (two, {"state": "draining"}),
        (one, {"ended_at": now}),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Deployment.objects.filter(pk=pk).update(**fields)


@pytest.mark.parametrize("digest", ["", "abc", "../../etc/passwd", "g" * 12, "0" * 64])
def test_a_digest_that_names_no_release_is_refused(stage: Stage, digest: str) -> None:
    real = stage.receive(1)
    assert selectors.release(real[:12]).release.digest == real
    with pytest.raises(NotFoundError):
        selectors.release(digest)
