"""From one set of rights to another: only ever less."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.clients import rules
from inference.clients.errors import ClientRefusedError
from inference.clients.rules import Bounds, Narrowing, Scope
from inference.policy.catalog import PURPOSES, TASKS, Feature, Lane
from inference.policy.rules import Rights

NAMES = ("lookup", "order", "page")
MODELS = ("m-1", "m-2", "m-3")
URGENCY = list(Lane)


def some(values: Any) -> st.SearchStrategy[frozenset[Any]]:
    return st.frozensets(st.sampled_from(list(values)))


def maybe(values: Any) -> st.SearchStrategy[frozenset[Any] | None]:
    return st.none() | some(values)


rights = st.builds(
    Rights,
    client=st.just("ward-7"),
    key_id=st.just("iwk_00000000"),
    tasks=some(TASKS),
    purposes=some(PURPOSES),
    lane=st.sampled_from(Lane),
    phi=st.booleans(),
    models=maybe(MODELS),
    features=some(Feature),
    tools=some(NAMES),
)
narrowings = st.builds(
    Narrowing,
    # What a signed statement names need not exist here.
    tasks=maybe([*TASKS, "essay"]),
    purposes=maybe([*PURPOSES, "FUN"]),
    lane=st.none() | st.sampled_from(Lane),
    phi=st.booleans(),
    models=maybe(MODELS),
    features=maybe(Feature),
    tools=maybe(NAMES),
)


def inside(small: frozenset[Any] | None, large: frozenset[Any] | None) -> bool:
    return large is None or (small is not None and small <= large)


@given(rights, narrowings)
def test_what_is_left_is_in_no_field_more_than_either_side(had: Rights, by: Narrowing) -> None:
    left = rules.narrow(had, by)
    for name in ("tasks", "purposes", "models", "features", "tools"):
        assert inside(getattr(left, name), getattr(had, name))
        assert inside(getattr(left, name), getattr(by, name))
    assert left.phi <= had.phi
    assert left.phi <= by.phi
    assert URGENCY.index(left.lane) >= URGENCY.index(had.lane)
    assert by.lane is None or URGENCY.index(left.lane) >= URGENCY.index(by.lane)
    assert (left.client, left.key_id) == (had.client, had.key_id)
    assert rules.covers(had, left)


@given(rights, narrowings, narrowings)
def test_the_order_of_key_and_user_changes_nothing_and_neither_does_saying_it_twice(
    had: Rights, key: Narrowing, user: Narrowing
) -> None:
    left = rules.narrow(rules.narrow(had, key), user)
    assert left == rules.narrow(rules.narrow(had, user), key)
    assert left == rules.narrow(left, user)


@given(rights, rights)
def test_work_goes_on_only_while_every_right_it_was_given_is_still_there(now: Rights, then: Rights) -> None:
    expected = (
        then.tasks <= now.tasks
        and then.purposes <= now.purposes
        and then.features <= now.features
        and then.tools <= now.tools
        and inside(then.models, now.models)
        and (now.phi or not then.phi)
    )
    assert rules.covers(now, then) == expected


@given(rights, rights)
def test_what_is_left_of_accepted_rights_is_in_both_and_for_the_same_user(then: Rights, now: Rights) -> None:
    then = replace(then, end_user="dr.lee", vouched_by="idp/1")
    left = rules.left(then, now)
    assert rules.covers(then, left)
    assert rules.covers(now, left)
    assert (left.end_user, left.vouched_by, left.key_id) == (then.end_user, then.vouched_by, then.key_id)
    assert left.lane == max(then.lane, now.lane, key=URGENCY.index)


@given(rights)
def test_a_narrowing_that_names_nothing_takes_nothing(had: Rights) -> None:
    assert rules.narrow(had, Narrowing()) == had


WARD = Rights(
    "ward-7",
    "",
    frozenset({"progress_note", "visit_summary"}),
    frozenset({"TREAT", "HOPERAT"}),
    Lane.INTERACTIVE,
    phi=True,
    features=frozenset({Feature.TOOLS}),
    tools=frozenset({"lookup"}),
)


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        (Scope(Narrowing(tasks=frozenset())), "scope_empty"),
        (Scope(Narrowing(purposes=frozenset())), "scope_empty"),
        (Scope(Narrowing(tasks=frozenset({"data_analyst"}))), "scope_not_granted"),
        (Scope(Narrowing(purposes=frozenset({"HMARKT"}))), "scope_not_granted"),
        (Scope(Narrowing(features=frozenset({Feature.LOGPROBS}))), "scope_not_granted"),
        (Scope(Narrowing(tools=frozenset({"order"}))), "scope_not_granted"),
        (Scope(Narrowing(lane=Lane.STAT)), "lane_not_granted"),
        (Scope(Narrowing(models=frozenset({"a b"}))), "model_name"),
        (Scope(bounds=Bounds(certificate="AB")), "certificate_fingerprint"),
        (Scope(bounds=Bounds(networks=rules.networks(f"10.0.{n}.0/24" for n in range(33)))), "too_many_networks"),
    ],
)
def test_a_key_is_not_issued_with_more_than_its_client_has(scope: Scope, code: str) -> None:
    with pytest.raises(ClientRefusedError) as refused:
        rules.check_scope(scope, WARD)
    assert refused.value.code == code


def test_a_key_may_be_slower_than_its_client() -> None:
    rules.check_scope(Scope(Narrowing(lane=Lane.BATCH, tasks=frozenset({"progress_note"}))), WARD)


@pytest.mark.parametrize(
    "text", ["10.1.2.3/24", "10.1.2", "10.1.2.0/33", "ward-7", "fe80::1%eth0/64", "0x0a.0.0.0/8", "010.1.2.0/24"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ClientRefusedError):
        rules.networks([text])


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("10.1.2.3", True), ("10.1.3.3", False), ("fd00:1::7", True), ("fd00:2::7", False), (None, False)],
)
def test_a_key_is_used_from_its_networks_or_from_nowhere(address: str | None, *, allowed: bool) -> None:
    bounds = Bounds(networks=rules.networks(["10.1.2.0/24", " fd00:1::/64 ", ""]))
    assert rules.within(bounds, address=ip_address(address) if address else None) == allowed
    assert rules.within(Bounds(), address=None)
