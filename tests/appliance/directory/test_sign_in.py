"""People of the directory at our door: what its groups are worth today, our own second factor, and every refusal's reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.test import Client
from pytest_django.fixtures import Settings

from appliance.accounts import rules, selectors, services
from appliance.accounts.apps import AccountsConfig
from appliance.accounts.errors import DirectoryRolesError, PersonError, SignInRefusedError
from appliance.accounts.models import Person
from provisioning.site_config import Site
from tests.appliance import cast
from tests.console.door import enter, records, text
from tests.simulators.directory import GROUPS, Slapd, free_port

pytestmark = pytest.mark.django_db

PASSWORD = "a-password-of-the-directory"


@pytest.fixture
def hana(slapd: Slapd, here: Site) -> Iterator[cast.Member]:
    """In one group that is mapped and one that is not."""
    dn = slapd.person("hana", "isoward-viewers", "staff", password=PASSWORD, title="Hana Sato")
    yield cast.Member("hana", PASSWORD)
    slapd.remove(dn)


def check(member: cast.Member, password: str = "") -> Person:
    return services.check_password(actor=member.username, password=password or member.password)


def refused(member: cast.Member, password: str = "") -> str:
    """The reason that is on record; the text is the one everybody gets."""
    before = len(records(action="person.sign_in_refused"))
    with pytest.raises(SignInRefusedError) as refusal:
        check(member, password)
    assert str(refusal.value) == str(SignInRefusedError())
    found = records(action="person.sign_in_refused")
    return found[0].outcome if len(found) > before else ""


def test_somebody_of_a_mapped_group_is_known_with_exactly_that_role_and_no_password_of_ours(hana: cast.Member) -> None:
    person = check(hana)
    assert (person.roles, person.display_name) == (["viewer"], "Hana Sato")
    assert not person.has_usable_password()
    assert not person.check_password(PASSWORD)
    (created,) = records(action="person.created")
    assert (created.actor, created.target) == ("system:directory", "hana")
    assert refused(hana, "wrong") == ""


def test_without_a_second_factor_of_ours_the_directorys_yes_opens_nothing(hana: cast.Member) -> None:
    browser = Client()
    assert browser.post("/sign-in", {"username": "hana", "password": PASSWORD})["Location"].startswith("/sign-in/code")
    assert browser.post("/sign-in/code", {"code": hana.code()}).status_code == 403
    assert browser.get("/profile")["Location"].startswith("/sign-in")
    services.enrol_totp(actor="test", username="hana", seed=cast.SEED, confirmed=True)
    assert "Hana Sato" in text(enter(hana, browser).get("/profile"))


def test_roles_are_what_the_groups_say_at_each_sign_in_and_end_with_them(slapd: Slapd, hana: cast.Member) -> None:
    check(hana)
    slapd.join("hana", "internal audit")
    assert check(hana).roles == ["auditor", "viewer"]
    slapd.leave("hana", "isoward-viewers")
    assert check(hana).roles == ["auditor"]
    assert [row.actor for row in records(action="person.roles_set")] == ["system:directory"] * 2
    slapd.leave("hana", "internal audit")
    assert refused(hana) == rules.DIRECTORY_NO_ROLE
    assert Person.objects.get(username="hana").roles == []
    slapd.join("hana", "isoward-viewers")
    assert check(hana).roles == ["viewer"]


def test_a_lost_group_ends_the_session_it_was_opened_under(slapd: Slapd, hana: cast.Member) -> None:
    check(hana)
    services.enrol_totp(actor="test", username="hana", seed=cast.SEED, confirmed=True)
    session = enter(hana, Client())
    slapd.leave("hana", "isoward-viewers")
    assert refused(hana) == rules.DIRECTORY_NO_ROLE
    assert session.get("/profile")["Location"].startswith("/sign-in")


def test_the_right_to_patients_text_ends_with_the_group_too(slapd: Slapd, hana: cast.Member) -> None:
    slapd.join("hana", "isoward-clinicians")
    check(hana)
    services.set_phi_right(actor="grace", username="hana", allowed=True)
    slapd.leave("hana", "isoward-clinicians")
    assert not check(hana).phi_view


def test_groups_that_nobody_mapped_are_worth_nothing(slapd: Slapd, here: Site) -> None:
    dn = slapd.person("ivan", "staff", password=PASSWORD)
    assert refused(cast.Member("ivan", PASSWORD)) == rules.DIRECTORY_NO_ROLE
    assert not Person.objects.filter(username="ivan").exists()
    slapd.remove(dn)


def test_groups_whose_roles_conflict_let_nobody_in_and_the_reason_is_on_record(slapd: Slapd, hana: cast.Member) -> None:
    check(hana)
    for group in ("Isoward Admins", "isoward-auditors"):
        slapd.join("hana", group)
    assert refused(hana) == rules.DIRECTORY_ROLE_CONFLICT
    assert '"it_admin"' in records(action="person.sign_in_refused")[0].detail
    assert Person.objects.get(username="hana").roles == []
    slapd.leave("hana", "isoward-auditors")
    assert check(hana).roles == ["it_admin", "viewer"]


def test_somebody_disabled_in_the_directory_is_refused_and_keeps_no_role(slapd: Slapd, hana: cast.Member) -> None:
    check(hana)
    slapd.disable("hana")
    assert refused(hana) == rules.DIRECTORY_DISABLED
    assert Person.objects.get(username="hana").roles == []


def test_somebody_deactivated_here_is_refused_whatever_the_directory_says(hana: cast.Member) -> None:
    check(hana)
    services.deactivate(actor="erin", username="hana")
    refused(hana)
    assert not Person.objects.get(username="hana").is_active


def test_a_name_given_to_somebody_new_does_not_inherit_the_account(slapd: Slapd, hana: cast.Member) -> None:
    check(hana)
    slapd.remove(f"uid=hana,{slapd.site.user_base}")
    slapd.person("hana", "Isoward Admins", password=PASSWORD)
    assert refused(hana) == rules.DIRECTORY_IDENTITY
    assert Person.objects.get(username="hana").roles == []


def test_somebody_renamed_does_not_become_a_second_person(slapd: Slapd, hana: cast.Member) -> None:
    check(hana)
    slapd.rename("hana", "hanako")
    slapd.rejoin("hana", "hanako", "isoward-viewers")
    try:
        assert refused(cast.Member("hanako", PASSWORD)) == rules.DIRECTORY_IDENTITY
        assert not Person.objects.filter(username="hanako").exists()
    finally:
        slapd.rename("hanako", "hana")


def test_a_local_person_is_asked_for_their_own_password_and_never_for_the_directorys(slapd: Slapd, here: Site) -> None:
    bob = cast.member("bob")
    dn = slapd.person("bob", "Isoward Admins", password=PASSWORD)
    refused(bob, PASSWORD)
    assert check(bob).roles == ["approver"]
    slapd.remove(dn)


def test_ten_wrong_passwords_lock_a_person_of_the_directory_and_the_directory_is_not_asked_again(
    slapd: Slapd, hana: cast.Member
) -> None:
    check(hana)
    for _ in range(rules.FAILURES_BEFORE_LOCK):
        refused(hana, "wrong")
    assert refused(hana) in {"", "locked"}
    assert Person.objects.get(username="hana").locked_until is not None


def test_a_directory_that_is_away_lets_nobody_in_and_takes_nobodys_role(
    slapd: Slapd, hana: cast.Member, settings: Settings
) -> None:
    check(hana)
    settings.SITE = replace(settings.SITE, directory=replace(slapd.site, port=free_port()))
    assert refused(hana) == "directory_unavailable"
    assert Person.objects.get(username="hana").roles == ["viewer"]
    bob = cast.member("bob")
    assert check(bob).username == "bob"
    settings.SITE = replace(settings.SITE, directory=None)
    refused(hana)


@pytest.mark.parametrize("name", ["hana)(uid=*", "*", "Hana", "hana ", "", "hàna", "a" * 40])
def test_a_name_outside_the_rule_is_refused_before_the_directory_is_asked(
    hana: cast.Member, slapd: Slapd, settings: Settings, name: str
) -> None:
    settings.SITE = replace(settings.SITE, directory=replace(slapd.site, port=free_port()))
    with pytest.raises((SignInRefusedError, ValueError)):
        services.check_password(actor=name, password=PASSWORD)
    assert records(action="person.sign_in_refused") == ()  # nobody was asked, so nothing could be away


def test_our_secret_readable_by_others_lets_nobody_in(hana: cast.Member, here: Site) -> None:
    path = here.secrets_dir / "directory-bind"
    path.chmod(0o644)
    assert refused(hana) == "directory_unavailable"
    path.chmod(0o600)
    assert check(hana).username == "hana"


def test_somebody_of_the_directory_does_not_end_the_first_boot_and_somebody_of_ours_does(hana: cast.Member) -> None:
    check(hana)
    assert selectors.is_first_boot()
    cast.member("erin")
    assert not selectors.is_first_boot()


def test_roles_of_the_directory_are_not_changed_here(hana: cast.Member) -> None:
    check(hana)
    with pytest.raises(PersonError, match="come from the directory"):
        services.set_roles(actor="erin", username="hana", roles=["it_admin"])
    assert selectors.permissions_of("hana") == Person.objects.get(username="hana").permissions


def test_the_database_gives_a_person_of_the_directory_no_password_and_no_vote(hana: cast.Member) -> None:
    check(hana)
    row = Person.objects.filter(username="hana")
    for change in ({"password": "scrypt$16384$x"}, {"roles": ["approver"]}):
        with pytest.raises(IntegrityError, match="directory_keeps_password"), transaction.atomic():
            row.update(**change)
    row.update(roles=["auditor"])


@pytest.mark.parametrize(("role", "says"), [("approver", "approvers are local"), ("root", "no such role")])
def test_a_mapping_that_cannot_stand_stops_the_process_and_names_its_line(
    slapd: Slapd, here: Site, settings: Settings, role: str, says: str
) -> None:
    mapping = {"viewer": (f"cn=a,{GROUPS}",), role: (f"cn=b,{GROUPS}",)}
    settings.SITE = replace(here, directory=replace(slapd.site, roles=mapping))
    with pytest.raises(ImproperlyConfigured, match=rf"directory\.roles\.{role}.*{says}"):
        AccountsConfig.ready(None)  # type: ignore[arg-type]  # it looks at the site alone
    settings.SITE = here
    AccountsConfig.ready(None)  # type: ignore[arg-type]  # as above
    with pytest.raises(DirectoryRolesError):
        rules.check_directory_roles(mapping)
