"""Changes: alice proposes on the release's page, bob and carol sign; who may not, is told why and nothing moves."""

from __future__ import annotations

import pytest

from appliance.changes import selectors as changes
from inference.releases import selectors as releases
from inference.releases import services as deploying
from tests.console.conftest import Enter
from tests.console.door import WRONG_CODE, SignedIn, records, text
from tests.inference.releases.stage import BUNDLE, Stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def digest(stage: Stage) -> str:
    return stage.receive(1)


@pytest.fixture
def change_id(digest: str, door: Enter) -> int:
    response = door("alice").post(f"/releases/{digest}/propose", reason="The first model.")
    assert response.status_code == 302
    return int(response["Location"].rpartition("/")[2])


def state(change_id: int) -> str:
    found = changes.change(change_id)
    assert found
    return found.state


def said(person: SignedIn, change_id: int) -> str:
    return text(person.get(f"/changes/{change_id}"))


def test_two_signatures_carry_it_out_and_the_page_says_who_signed(change_id: int, door: Enter) -> None:
    bob, carol = door("bob"), door("carol")
    page = said(bob, change_id)
    assert "It waits for you." in page
    assert "The first model." in page
    bob.approve(change_id)
    assert state(change_id) == "open"
    assert "One more of: carol" in said(bob, change_id)
    carol.approve(change_id)
    assert state(change_id) == "executed"
    assert [item.state for item in releases.live_deployments()] == ["starting"]
    page = said(carol, change_id)
    assert "Starting" in page
    assert f"/changes/{change_id}/live" in page


def test_the_page_stops_asking_once_the_outcome_is_known(change_id: int, door: Enter) -> None:
    door("bob").approve(change_id)
    door("carol").approve(change_id)
    deployment = releases.live_deployments()[0].id
    deploying.mark_serving(actor="test", deployment_id=deployment, gate={"ok": True})
    page = text(door("dave").get(f"/changes/{change_id}/live"))
    assert "It has served since" in page
    assert "hx-get" not in page
    assert f"Serving {BUNDLE} 1" in said(door("dave"), change_id)


def test_a_wrong_password_or_code_signs_nothing_and_is_recorded(change_id: int, door: Enter) -> None:
    bob = door("bob")
    for password, code in ((bob.member.password, WRONG_CODE), ("wrong", bob.member.code()), ("", "")):
        bob.post(f"/changes/{change_id}/approve", password=password, code=code)
    found = changes.change(change_id)
    assert found
    assert found.approvals == ()
    assert {row.outcome for row in records(actor="bob", kind="refusal")} == {"sign_in_refused"}
    assert "Nothing was changed." in said(bob, change_id)


def test_the_code_that_signed_cannot_sign_again(change_id: int, door: Enter) -> None:
    bob = door("bob")
    code = bob.member.code(steps=1)
    for _ in range(2):
        bob.post(f"/changes/{change_id}/approve", password=bob.member.password, code=code)
    found = changes.change(change_id)
    assert found
    assert len(found.approvals) == 1


def test_the_proposer_and_a_second_vote_are_refused_by_the_ledger_too(change_id: int, door: Enter) -> None:
    bob, alice = door("bob"), door("alice")
    bob.approve(change_id)
    bob.approve(change_id)
    assert alice.approve(change_id).status_code == 403
    found = changes.change(change_id)
    assert found
    assert found.tally.approved_by == {"bob"}
    assert "approval_not_eligible" in said(bob, change_id)
    assert "two other people must approve" in said(alice, change_id)


def test_it_cannot_be_signed_after_it_was_rejected_and_the_reason_is_kept(change_id: int, door: Enter) -> None:
    bob, carol = door("bob"), door("carol")
    bob.post(f"/changes/{change_id}/reject", reason="")
    assert state(change_id) == "open"
    bob.post(f"/changes/{change_id}/reject", reason="Not before the audit.")
    carol.approve(change_id)
    assert state(change_id) == "rejected"
    assert "Not before the audit." in said(carol, change_id)


def test_only_its_proposer_withdraws_it(change_id: int, door: Enter) -> None:
    assert door("bob").post(f"/changes/{change_id}/withdraw").status_code == 403
    assert state(change_id) == "open"
    door("alice").post(f"/changes/{change_id}/withdraw")
    assert state(change_id) == "withdrawn"


def test_every_fact_that_is_signed_is_on_the_page(change_id: int, door: Enter) -> None:
    found = changes.change(change_id)
    assert found
    page = said(door("bob"), change_id).replace("&#x27;", "'").replace("&quot;", '"').replace("&amp;", "&")
    assert found.digest in page
    for path, fact in found.facts["files"].items():
        assert f"{path}  {fact['sha256'][:12]}" in page, path
    for word in [*found.facts["arguments"], *found.facts["environment"], *found.facts["routes"]]:
        assert word in page, word


def test_the_diff_is_against_what_runs_now(stage: Stage, change_id: int, door: Enter) -> None:
    door("bob").approve(change_id)
    door("carol").approve(change_id)
    deploying.mark_serving(actor="test", deployment_id=releases.live_deployments()[0].id, gate={"ok": True})
    second = stage.receive(2)
    response = door("alice").post(f"/releases/{second}/propose", reason="Version two.")
    page = text(door("bob").get(response["Location"]))
    assert f"Against what runs now (change {change_id})" in page
    assert second in page
    assert "the same" in page


def test_a_release_with_an_undecided_change_offers_that_change_and_no_second_proposal(
    digest: str, change_id: int, door: Enter
) -> None:
    page = text(door("alice").get(f"/releases/{digest}"))
    assert f'href="/changes/{change_id}"' in page
    assert "Propose activation" not in page
    door("alice").post(f"/changes/{change_id}/withdraw")
    assert "Propose activation" in text(door("alice").get(f"/releases/{digest}"))


def test_a_proposal_without_a_reason_is_not_opened(digest: str, door: Enter) -> None:
    response = door("alice").post(f"/releases/{digest}/propose", reason=" ")
    assert response.status_code == 400
    assert changes.changes() == ()


def test_what_already_serves_cannot_be_proposed_again(digest: str, change_id: int, door: Enter) -> None:
    door("bob").approve(change_id)
    door("carol").approve(change_id)
    deploying.mark_serving(actor="test", deployment_id=releases.live_deployments()[0].id, gate={"ok": True})
    alice = door("alice")
    assert "Propose activation" not in text(alice.get(f"/releases/{digest}"))
    response = alice.browser.post(f"/releases/{digest}/propose", {"reason": "Again."}, follow=True)
    assert "already_serving" in text(response)
    assert records(actor="alice", kind="refusal")[0].outcome == "already_serving"


def test_a_change_that_is_not_there_is_not_found(door: Enter) -> None:
    for number in ("999999", "99999999999999999999999999"):
        assert door("bob").get(f"/changes/{number}").status_code == 404


def test_an_engine_that_did_not_start_is_not_shown_as_carried_out(change_id: int, door: Enter) -> None:
    door("bob").approve(change_id)
    door("carol").approve(change_id)
    deployment = releases.live_deployments()[0].id
    deploying.mark_failed(actor="test", deployment_id=deployment, code="start_timeout", message="It was not ready.")
    page = said(door("bob"), change_id)
    assert "Engine did not start" in page
    assert "It was not ready." in page
    assert "start_timeout" in page
    assert "hx-get" not in page
