"""Changes: two people, neither the proposer, over one digest; and nothing carried out on a row's word alone."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction

from appliance.accounts import selectors as people
from appliance.accounts.errors import SignInRefusedError
from appliance.changes import kinds, selectors, services
from appliance.changes.errors import ChangeError, ClosedError, ExecutionRefusedError, FactsError, NotEligibleError
from appliance.changes.models import Approval, Change
from provisioning import approval
from tests.appliance import cast

pytestmark = pytest.mark.django_db

DONE: list[int] = []


def carry_out(*, actor: str, change: approval.ChangeFacts) -> None:
    """The executor of the test's own kind."""
    del actor
    if change.facts["value"] == "refuse":
        raise ExecutionRefusedError("the box is not as this change expects it")
    DONE.append(change.id)


kinds.register(kinds.Kind("test.set", "Set a value", frozenset({"value"}), f"{__name__}.carry_out"))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    DONE.clear()


def propose(value: Any = "v") -> int:
    """A change by alice."""
    return services.open_change(
        actor="alice", kind="test.set", subject="thing", facts={"value": value}, reason="because"
    )


def approve(member: cast.Member, change_id: int) -> bool:
    """One approval with a fresh code."""
    cast.forget_used_codes()
    return services.approve(
        actor=member.username, change_id=change_id, password=member.password, code=member.code()
    ).passed


def test_two_people_carry_a_change_out_once_and_one_does_not() -> None:
    bob, carol = cast.member("bob"), cast.member("carol")
    change_id = propose()
    assert not approve(bob, change_id)
    assert DONE == []
    assert approve(carol, change_id)
    services.execute(actor="again", change_id=change_id)
    assert [change_id] == DONE
    assert selectors.change(change_id).state == "executed"  # type: ignore[union-attr]  # it exists


def test_it_refuses_the_proposer_a_second_vote_and_a_person_without_the_right() -> None:
    alice, bob, dave = cast.member("alice"), cast.member("bob"), cast.member("dave")
    change_id = propose()
    assert not approve(bob, change_id)
    with pytest.raises(NotEligibleError):
        approve(bob, change_id)
    for somebody in (alice, dave):
        with pytest.raises(Exception, match="no signing key"):
            approve(somebody, change_id)
    own = services.open_change(actor="bob", kind="test.set", subject="x", facts={"value": "v"}, reason="r")
    with pytest.raises(NotEligibleError):
        approve(bob, own)


def test_the_database_refuses_the_proposer_and_a_second_vote_too() -> None:
    change = Change.objects.get(pk=propose())

    def insert(approver: str, key: str) -> None:
        with transaction.atomic():
            Approval.objects.create(
                change=change, proposer="alice", approver=approver, digest=change.digest, key_id=key, signature=b"x"
            )

    with pytest.raises(IntegrityError):
        insert("alice", "1")
    insert("bob", "1")
    for approver, key in [("bob", "2"), ("carol", "1")]:
        with pytest.raises(IntegrityError):
            insert(approver, key)


def test_a_wrong_code_is_refused_and_leaves_no_approval() -> None:
    bob = cast.member("bob")
    change_id = propose()
    with pytest.raises(SignInRefusedError):
        services.approve(actor="bob", change_id=change_id, password=bob.password, code="000000")
    assert not Approval.objects.exists()


def test_an_approval_inserted_by_sql_carries_nothing_out() -> None:
    bob = cast.member("bob")
    cast.member("carol")
    change_id = propose()
    approve(bob, change_id)
    carols = people.person("carol")
    assert carols is not None
    Approval.objects.create(
        change_id=change_id,
        proposer="alice",
        approver="carol",
        digest="",
        key_id=carols.signing_key_id,
        signature=b"\0" * 64,
    )
    Change.objects.filter(pk=change_id).update(state="approved")
    services.execute(actor="system", change_id=change_id)
    row = selectors.change(change_id)
    assert DONE == []
    assert row is not None
    assert (row.state, row.message) == ("failed", "the approval by carol does not match this change")


def test_facts_changed_after_the_signatures_carry_nothing_out() -> None:
    bob, carol = cast.member("bob"), cast.member("carol")
    change_id = propose()
    approve(bob, change_id)
    Change.objects.filter(pk=change_id).update(facts={"value": "other"})
    with pytest.raises(ChangeError, match="altered"):
        approve(carol, change_id)
    assert DONE == []


def test_an_executor_that_refuses_ends_the_change_as_failed_with_the_reason() -> None:
    bob, carol = cast.member("bob"), cast.member("carol")
    change_id = propose("refuse")
    approve(bob, change_id)
    approve(carol, change_id)
    row = selectors.change(change_id)
    assert row is not None
    assert row.state == "failed"
    assert "not as this change expects" in row.message


def test_a_withdrawn_or_rejected_change_takes_no_approval() -> None:
    bob = cast.member("bob")
    withdrawn, rejected = propose(), propose()
    services.withdraw(actor="alice", change_id=withdrawn)
    services.reject(actor="bob", change_id=rejected, reason="no")
    for change_id in (withdrawn, rejected):
        with pytest.raises(ClosedError):
            approve(bob, change_id)


def test_only_the_declared_facts_and_only_canonical_ones() -> None:
    for facts in ({}, {"value": "v", "more": 1}, {"value": 1.5}):
        with pytest.raises(FactsError):
            services.open_change(actor="alice", kind="test.set", subject="x", facts=facts, reason="r")
    with pytest.raises(FactsError):
        services.open_change(actor="alice", kind="no.such", subject="x", facts={}, reason="r")
    with pytest.raises(ValueError, match="one person"):
        kinds.Kind("solo", "Solo", frozenset(), "x", quorum=1)


def test_a_key_that_was_not_enrolled_here_is_not_a_person() -> None:
    bob, carol = cast.member("bob"), cast.member("carol")
    change_id = propose()
    approve(bob, change_id)
    approve(carol, change_id)
    facts, approvals = selectors.signed_facts(change_id)
    key = settings.SITE.secret("roster-key")
    assert approval.check(facts, approvals=approvals, roster=people.roster(), roster_key=key) == ("bob", "carol")
    with pytest.raises(approval.ApprovalError) as refused:
        approval.check(facts, approvals=approvals, roster=people.roster(), roster_key=b"another key")
    assert refused.value.code == "roster_forged"
    with pytest.raises(approval.ApprovalError) as refused:
        approval.check(facts, approvals=approvals[:1], roster=people.roster(), roster_key=key)
    assert refused.value.code == "approval_quorum"
    with pytest.raises(approval.ApprovalError) as refused:
        approval.check(facts, approvals=[approvals[0], approvals[0]], roster=people.roster(), roster_key=key)
    assert refused.value.code == "approval_repeated"
