"""Approvals that come at the wrong moment: at once, too late, after the role is gone, and over an executor that dies."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from appliance.accounts import services as accounts
from appliance.alerts import services as alerting
from appliance.alerts.models import Alert
from appliance.alerts.rules import Severity
from appliance.changes import kinds, selectors, services, tasks
from appliance.changes.errors import ClosedError, NotEligibleError
from appliance.changes.models import Approval
from provisioning import approval
from tests.appliance import cast
from tests.console.door import records

pytestmark = pytest.mark.django_db(transaction=True)

DIES: list[bool] = []


def carry_out(*, actor: str, change: approval.ChangeFacts) -> None:
    """The executor of the test's own kind: it leaves one row, and may die after it."""
    alerting.open_(actor=actor, key=f"test.{change.id}", severity=Severity.INFO, title="Carried out")
    if DIES and DIES.pop():
        raise SystemExit("the process is killed here")


kinds.register(kinds.Kind("test.row", "Leave a row", frozenset({"value"}), f"{__name__}.carry_out"))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    DIES.clear()


def propose() -> int:
    return services.open_change(actor="alice", kind="test.row", subject="thing", facts={"value": "v"}, reason="because")


def approve(member: cast.Member, change_id: int) -> None:
    services.approve(actor=member.username, change_id=change_id, password=member.password, code=member.code())


def test_two_who_sign_at_the_same_moment_carry_it_out_once_and_a_third_comes_too_late() -> None:
    bob, carol = cast.member("bob"), cast.member("carol")
    frank = cast.Member("frank", "frank-has-a-long-password")
    accounts.create_person(
        actor="test", username="frank", display_name="Frank", password=frank.password, roles=["approver"]
    )
    accounts.enrol_totp(actor="test", username="frank", seed=cast.SEED, confirmed=True)
    change_id = propose()
    together, failed = threading.Barrier(2), []

    def sign(member: cast.Member) -> None:
        try:
            together.wait(30)
            approve(member, change_id)
        except Exception as error:  # noqa: BLE001 - told to the test, which fails on it
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=sign, args=(member,)) for member in (bob, carol)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert Approval.objects.filter(change_id=change_id).count() == 2
    assert len(records(action="change.executed")) == 1
    assert Alert.objects.filter(key=f"test.{change_id}").count() == 1
    with pytest.raises(ClosedError):
        approve(frank, change_id)
    assert len(records(action="change.executed")) == 1


def test_whoever_lost_the_role_after_the_proposal_is_not_eligible_and_who_holds_it_is() -> None:
    bob, carol = cast.member("bob"), cast.member("carol")
    change_id = propose()
    accounts.set_roles(actor="erin", username="bob", roles=["viewer"])
    with pytest.raises(NotEligibleError) as refused:
        approve(bob, change_id)
    assert refused.value.code == "approval_not_eligible"
    approve(carol, change_id)
    found = selectors.change(change_id)
    assert found is not None
    assert found.tally.approved_by == {"carol"}


def test_the_same_key_under_a_second_name_is_one_vote() -> None:
    bob = cast.member("bob")
    cast.member("carol")
    change_id = propose()
    approve(bob, change_id)
    first = Approval.objects.get(change_id=change_id)
    values: dict[str, Any] = {
        "change_id": change_id, "proposer": "alice", "approver": "bob2", "digest": first.digest,
        "key_id": first.key_id, "signature": bytes(first.signature),
    }  # fmt: skip
    with pytest.raises(Exception, match="once_per_key"):
        Approval.objects.create(**values)


def test_an_executor_killed_between_approved_and_done_leaves_nothing_and_is_finished_once_by_the_sweep() -> None:
    bob, carol = cast.member("bob"), cast.member("carol")
    change_id = propose()
    approve(bob, change_id)
    DIES.append(True)
    with pytest.raises(SystemExit):
        approve(carol, change_id)
    assert Alert.objects.filter(key=f"test.{change_id}").count() == 0
    assert records(action="change.executed") == ()
    assert selectors.approved_ids() == (change_id,)
    for _ in range(2):
        tasks.execute_approved()
    assert Alert.objects.filter(key=f"test.{change_id}").count() == 1
    assert len(records(action="change.executed")) == 1
