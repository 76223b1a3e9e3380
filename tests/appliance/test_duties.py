"""Duties kept apart: no set of roles anybody can come to hold, by whatever acts, lets one person act alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.accounts import permissions, rules, selectors, services
from appliance.accounts.errors import AccountError, PhiRightError, RoleConflictError
from appliance.accounts.models import Person
from appliance.accounts.permissions import APART, GRANTS, Permission, PhiRight, Right, Role
from tests.appliance import cast
from tests.console.door import records

pytestmark = pytest.mark.django_db

ROLES = [role.value for role in Role]
# Every set of roles there is: nothing is sampled where everything can be looked at.
EVERY_SET = [set(roles) for size in range(len(ROLES) + 1) for roles in itertools.combinations(ROLES, size)]
PEOPLE = ("erin", "bob", "carol")
# What the issue names; the matrix may hold more.
NEVER_TOGETHER: tuple[tuple[Right, Right], ...] = (
    (Permission.CHANGE_PROPOSE, Permission.CHANGE_APPROVE),
    (Permission.STAFF_MANAGE, Permission.CHANGE_APPROVE),
    (Permission.STAFF_MANAGE, Permission.AUDIT_VIEW),
    (Permission.STAFF_MANAGE, PhiRight.VIEW),
)


@contextmanager
def undone() -> Iterator[None]:
    """One example's own world: whatever it writes is taken back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def rights(person: Person) -> frozenset[Right]:
    """All that this row lets its person do."""
    return person.permissions | ({PhiRight.VIEW} if person.may_see_patients else frozenset())


def alone(held: frozenset[Right]) -> list[str]:
    """The duties in one hand, if any: by the matrix, and by the four pairs the issue names."""
    found = [f"{apart.one} and {apart.other}" for apart in APART if held >= apart.pair]
    return found + [f"{one} and {other}" for one, other in NEVER_TOGETHER if held >= {one, other}]


def test_every_set_of_roles_that_is_accepted_keeps_the_duties_apart_and_every_other_is_refused() -> None:
    accepted = 0
    for roles in EVERY_SET:
        for phi_view in (False, True):
            held: frozenset[Right] = permissions.granted(roles) | ({PhiRight.VIEW} if phi_view else frozenset())
            assert (permissions.conflict(roles, phi_view=phi_view) is not None) == bool(alone(held)), roles
        if permissions.conflict(roles) is None:
            rules.check_roles(sorted(roles))
            accepted += 1
        else:
            with pytest.raises(RoleConflictError):
                rules.check_roles(sorted(roles))
    assert 0 < accepted < len(EVERY_SET)


def test_the_database_draws_the_line_where_the_rule_draws_it_for_every_set_of_roles() -> None:
    cast.member("bob")
    bob = Person.objects.filter(username="bob")
    for roles in EVERY_SET:
        for phi_view in (False, True):
            allowed = permissions.conflict(roles) is None and (not phi_view or permissions.may_hold_phi(roles))
            try:
                with transaction.atomic():
                    bob.update(roles=sorted(roles), phi_view=phi_view)
                written = True
            except IntegrityError:
                written = False
            assert written == allowed, f"{sorted(roles)} {phi_view}"


names = st.sampled_from(PEOPLE)
chosen = st.lists(st.sampled_from([*ROLES, "superuser", "IT_ADMIN", ""]), max_size=4)
acts = st.one_of(
    st.tuples(st.just("roles"), names, names, chosen),
    st.tuples(st.just("phi"), names, names, st.booleans()),
    st.tuples(st.just("end"), names, names, st.none()),
    st.tuples(st.just("sql roles"), names, names, chosen),
    st.tuples(st.just("sql phi"), names, names, st.booleans()),
)


def carry_out(act: str, actor: str, username: str, given: object) -> None:
    """One act through its service, or past it by SQL."""
    row = Person.objects.filter(username=username)
    if act == "roles":
        services.set_roles(actor=actor, username=username, roles=given)  # type: ignore[arg-type]  # a list by the strategy
    elif act == "phi":
        services.set_phi_right(actor=actor, username=username, allowed=bool(given))
    elif act == "end":
        services.deactivate(actor=actor, username=username)
    elif act == "sql roles":
        row.update(roles=given)
    else:
        row.update(phi_view=bool(given))


@given(steps=st.lists(acts, min_size=1, max_size=12))
@settings(
    max_examples=150,
    deadline=None,
    # The database is one for all examples on purpose: each takes back what it wrote.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_sequence_of_acts_brings_anybody_to_duties_that_must_stay_apart(
    steps: list[tuple[str, str, str, object]],
) -> None:
    with undone():
        for name in PEOPLE:
            Person.objects.create(username=name, display_name=name, roles=["viewer"])
        for act, actor, username, given in steps:
            try:
                with transaction.atomic():
                    carry_out(act, actor, username, given)
            except (AccountError, IntegrityError):
                continue
            for person in Person.objects.all():
                assert alone(rights(person)) == [], f"after {act} {username} {given}"
                assert set(person.roles) <= set(ROLES)


def test_each_role_of_the_issue_is_there_and_none_alone_holds_two_duties() -> None:
    assert set(ROLES) == {
        "it_admin", "model_operator", "approver", "clinician_reviewer", "privacy_officer", "security_officer",
        "app_owner", "auditor", "viewer",
    }  # fmt: skip
    assert all(permissions.conflict([role]) is None for role in ROLES)
    assert set(GRANTS) == set(Role)


def test_no_role_may_do_everything_and_no_table_knows_a_superuser() -> None:
    assert all(len(GRANTS[role]) < len(Permission) for role in Role)
    assert max(len(permissions.granted(roles)) for roles in EVERY_SET if permissions.conflict(roles) is None) < len(
        Permission
    )
    columns = {field.name for model in apps.get_models() for field in model._meta.get_fields()}
    assert not columns & {"is_superuser", "is_staff", "is_admin", "superuser", "user_permissions"}
    assert not hasattr(Person, "has_perm")


@pytest.mark.parametrize("command", ["createsuperuser", "changepassword"])
def test_djangos_own_commands_for_people_are_refused_and_write_nothing(command: str) -> None:
    bob = cast.member("bob")
    with pytest.raises(CommandError, match="here"):
        call_command(command, *(["bob"] if command == "changepassword" else []))
    services.check_password(actor="bob", password=bob.password)
    assert Person.objects.count() == 1


def test_a_privacy_officer_opens_patients_text_to_a_clinician_and_to_nobody_else() -> None:
    cast.member("bob")
    cast.member("carol")
    services.set_roles(actor="erin", username="bob", roles=["clinician_reviewer"])
    services.set_phi_right(actor="grace", username="bob", allowed=True)
    with pytest.raises(PhiRightError, match="goes with the role Clinician reviewer"):
        services.set_phi_right(actor="grace", username="carol", allowed=True)
    assert [row.username for row in selectors.people() if row.phi_view] == ["bob"]
    (record,) = records(action="person.phi_right_set")
    assert (record.actor, record.target) == ("grace", "bob")


def test_nobody_opens_patients_text_to_themselves() -> None:
    cast.member("bob")
    services.set_roles(actor="erin", username="bob", roles=["clinician_reviewer"])
    with pytest.raises(PhiRightError, match="Nobody gives themselves"):
        services.set_phi_right(actor="bob", username="bob", allowed=True)
    services.set_phi_right(actor="grace", username="bob", allowed=True)


def test_the_right_ends_with_the_role_it_was_given_for_and_does_not_come_back_with_it() -> None:
    cast.member("bob")
    services.set_roles(actor="erin", username="bob", roles=["clinician_reviewer"])
    services.set_phi_right(actor="grace", username="bob", allowed=True)
    services.set_roles(actor="erin", username="bob", roles=["clinician_reviewer", "it_admin"])
    assert not Person.objects.get(username="bob").phi_view
    assert '"phi_view": false' in records(action="person.roles_set")[0].detail
    services.set_roles(actor="erin", username="bob", roles=["clinician_reviewer"])
    assert not Person.objects.get(username="bob").may_see_patients


def test_a_deactivated_person_is_shown_nothing() -> None:
    cast.member("bob")
    services.set_roles(actor="erin", username="bob", roles=["clinician_reviewer"])
    services.set_phi_right(actor="grace", username="bob", allowed=True)
    assert Person.objects.get(username="bob").may_see_patients
    services.deactivate(actor="erin", username="bob")
    assert not Person.objects.get(username="bob").may_see_patients
