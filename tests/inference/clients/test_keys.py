"""What a key leaves of its client's grants, how one is changed for another, and who may vouch for users."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError, IntegrityError, transaction

from appliance.audit.models import Record
from inference.clients import rules, selectors, services
from inference.clients.errors import ClientNotFoundError, ClientRefusedError
from inference.clients.models import ApiKey, AssertionIssuer, AssertionKey
from inference.clients.rules import Bounds, Narrowing, Scope
from inference.policy.catalog import Feature, Lane
from tests.simulators.identity import Provider, public_pem

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
SCOPE = Scope(
    Narrowing(
        tasks=frozenset({"progress_note"}),
        purposes=frozenset({"TREAT"}),
        lane=Lane.BATCH,
        phi=False,
        models=frozenset({"m-1"}),
        features=frozenset({Feature.TOOLS}),
        tools=frozenset({"lookup"}),
    ),
    Bounds(networks=rules.networks(["10.1.2.0/24", "fd00::/64"]), certificate="ab" * 32),
)


def now() -> datetime:
    return datetime.now(UTC)


def held(key: services.IssuedKey, *, at: datetime | None = None) -> selectors.Held | None:
    return selectors.snapshot().of_key(key.plaintext, now=at or now())


@pytest.fixture(autouse=True)
def ward() -> None:
    services.create_client(
        actor="erin", name="ward-7", title="Ward 7", owner="Nursing", tasks=["progress_note", "visit_summary"],
        purposes=["TREAT", "HOPERAT"], lane="interactive", phi=True, features=["tools", "logprobs"],
        tools=["lookup", "order"],
    )  # fmt: skip


def test_a_keys_rights_are_what_its_scope_leaves_of_its_clients_grants() -> None:
    found = held(services.issue_key(actor="erin", client="ward-7", scope=SCOPE))
    assert found is not None
    assert (found.rights.tasks, found.rights.purposes) == (frozenset({"progress_note"}), frozenset({"TREAT"}))
    assert (found.rights.lane, found.rights.phi, found.rights.models) == (Lane.BATCH, False, frozenset({"m-1"}))
    assert (found.rights.features, found.rights.tools) == (frozenset({Feature.TOOLS}), frozenset({"lookup"}))
    assert found.bounds == SCOPE.bounds


def test_a_grant_that_is_taken_back_is_gone_from_each_key_and_one_that_is_given_reaches_only_the_wide_ones() -> None:
    narrow, wide = (services.issue_key(actor="erin", client="ward-7", scope=scope) for scope in (SCOPE, Scope()))
    services.set_grants(
        actor="erin", client="ward-7", tasks=["data_analyst"], purposes=["TREAT"], lane="stat", phi=True,
        features=[], tools=[], assertion_required=False,
    )  # fmt: skip
    left, all_of_it = held(narrow), held(wide)
    assert left is not None
    assert all_of_it is not None
    assert (left.rights.tasks, left.rights.features, left.rights.lane) == (frozenset(), frozenset(), Lane.BATCH)
    assert (all_of_it.rights.tasks, all_of_it.rights.lane) == (frozenset({"data_analyst"}), Lane.STAT)


def test_a_key_with_more_than_its_client_has_is_not_issued() -> None:
    with pytest.raises(ClientRefusedError):
        services.issue_key(actor="erin", client="ward-7", scope=Scope(Narrowing(tasks=frozenset({"data_analyst"}))))
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": ["essay"]}, {"tasks": []}, {"purposes": ["FUN"]}, {"purposes": []}, {"lane": "vip"},
        {"features": ["shell"]}, {"certificate": "AB" * 32}, {"certificate": "ab"}, {"networks": ["10.1.2.3/24"]},
        {"networks": ["ward-7"]}, {"networks": [f"10.0.{n}.0/24" for n in range(33)]},
    ],
)  # fmt: skip
def test_the_database_holds_a_scopes_rules_too(change: dict[str, Any]) -> None:
    services.issue_key(actor="erin", client="ward-7")
    with pytest.raises((IntegrityError, DataError)), transaction.atomic():
        ApiKey.objects.update(**change)


def test_a_rotated_key_overlaps_with_its_successor_which_has_the_same_scope() -> None:
    old = services.issue_key(actor="erin", client="ward-7", scope=SCOPE)
    new = services.rotate_key(actor="frank", prefix=old.prefix, overlap=DAY)
    before, after = held(old), held(new)
    assert before is not None
    assert after is not None
    assert before.bounds == after.bounds
    assert (before.rights.tasks, before.rights.lane) == (after.rights.tasks, after.rights.lane)
    assert held(old, at=now() + DAY - timedelta(minutes=1)) is not None
    assert held(old, at=now() + DAY) is None
    assert held(new, at=now() + 2 * DAY) is not None
    row = Record.objects.get(action="client.key_rotated")
    assert (row.actor, row.target, json.loads(row.detail)["successor"]) == ("frank", old.prefix, new.prefix)


def test_a_rotation_never_lengthens_a_life_and_may_end_it_at_once() -> None:
    short = services.issue_key(actor="erin", client="ward-7", life=timedelta(hours=1))
    services.rotate_key(actor="erin", prefix=short.prefix, overlap=DAY)
    assert ApiKey.objects.get(prefix=short.prefix).expires == short.expires
    ended = services.issue_key(actor="erin", client="ward-7")
    services.rotate_key(actor="erin", prefix=ended.prefix, overlap=timedelta(0))
    assert held(ended) is None


def test_a_key_is_rotated_once_and_not_after_its_end() -> None:
    old = services.issue_key(actor="erin", client="ward-7")
    new = services.rotate_key(actor="erin", prefix=old.prefix, overlap=DAY)
    services.revoke_key(actor="erin", prefix=new.prefix)
    for prefix, code in ((old.prefix, "key_replaced"), (new.prefix, "key_ended")):
        with pytest.raises(ClientRefusedError) as refused:
            services.rotate_key(actor="erin", prefix=prefix, overlap=DAY)
        assert refused.value.code == code
    with pytest.raises(ClientNotFoundError):
        services.rotate_key(actor="erin", prefix="iwk_00000000", overlap=DAY)
    with pytest.raises(ClientRefusedError):
        services.rotate_key(actor="erin", prefix=old.prefix, overlap=timedelta(days=31))


def test_a_key_is_replaced_by_one_other_whatever_is_written() -> None:
    old = services.issue_key(actor="erin", client="ward-7")
    services.rotate_key(actor="erin", prefix=old.prefix, overlap=DAY)
    third = services.issue_key(actor="erin", client="ward-7")
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.filter(prefix=third.prefix).update(replaces=ApiKey.objects.get(prefix=old.prefix))


def test_an_issuer_counts_with_its_keys_until_it_is_suspended_retired_or_over() -> None:
    idp = Provider().register()
    assert set(selectors.snapshot().issuers[idp.iss].keys) == {idp.kid}
    services.set_issuer_state(actor="erin", issuer=idp.name, active=False)
    assert not selectors.snapshot().issuers
    services.set_issuer_state(actor="erin", issuer=idp.name, active=True)
    services.add_issuer_key(actor="erin", issuer=idp.name, kid="2027-01", pem=public_pem(Provider().key))
    assert services.retire_issuer_key(actor="erin", issuer=idp.name, kid=idp.kid)
    assert not services.retire_issuer_key(actor="erin", issuer=idp.name, kid=idp.kid)
    assert set(selectors.snapshot().issuers[idp.iss].keys) == {"2027-01"}
    actions = Record.objects.filter(target=idp.name).order_by("seq").values_list("action", flat=True)
    assert list(actions) == [
        "issuer.registered", "issuer.key_added", "issuer.updated", "issuer.updated", "issuer.key_added",
        "issuer.key_retired",
    ]  # fmt: skip


def test_running_work_stands_on_its_key_its_grants_and_its_voucher() -> None:
    idp = Provider().register()
    found = held(services.issue_key(actor="erin", client="ward-7"))
    assert found is not None
    rights = replace(found.rights, end_user="dr.lee", vouched_by=f"{idp.name}/{idp.kid}")
    assert selectors.snapshot().stands(rights, now=now())
    assert not selectors.snapshot().stands(rights, now=now() + timedelta(days=400))
    services.retire_issuer_key(actor="erin", issuer=idp.name, kid=idp.kid)
    assert not selectors.snapshot().stands(rights, now=now())
    assert selectors.snapshot().stands(found.rights, now=now())
    services.set_grants(
        actor="erin", client="ward-7", tasks=["progress_note", "visit_summary"], purposes=["TREAT", "HOPERAT"],
        lane="interactive", phi=True, features=["tools"], tools=["lookup", "order"], assertion_required=False,
    )  # fmt: skip
    assert not selectors.snapshot().stands(found.rights, now=now())


def test_a_key_written_past_the_services_verifies_nothing_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    idp = Provider().register()
    AssertionKey.objects.update(pem="-----BEGIN PUBLIC KEY-----")
    assert not selectors.snapshot().issuers[idp.iss].keys
    assert "issuer_key_unusable" in caplog.text
    assert selectors.issuers()[0].keys[0].algorithm == "unusable"


def test_names_and_keys_of_issuers_are_taken_once() -> None:
    idp = Provider().register()
    for name, iss in (("again", idp.iss), (idp.name, "https://again.example")):
        with pytest.raises(ClientRefusedError) as refused:
            services.register_issuer(actor="erin", name=name, iss=iss)
        assert refused.value.code == "issuer_exists"
    for kid, pem in ((idp.kid, public_pem(Provider().key)), ("other", public_pem(idp.key))):
        with pytest.raises(ClientRefusedError) as refused:
            services.add_issuer_key(actor="erin", issuer=idp.name, kid=kid, pem=pem)
        assert refused.value.code == "issuer_key_exists"
    with pytest.raises(ClientNotFoundError):
        services.add_issuer_key(actor="erin", issuer="nobody", kid="k", pem=public_pem(Provider().key))
    with pytest.raises(ClientNotFoundError):
        services.register_issuer(actor="erin", name="own", iss="own", client="nobody")


def test_an_issuer_is_shown_to_the_clients_it_serves() -> None:
    Provider().register()
    Provider(name="own", iss="own", kid="k").register(client="ward-7")
    assert [item.name for item in selectors.issuers(of_client="ward-7")] == ["hospital-idp", "own"]
    assert [item.name for item in selectors.issuers(of_client="ward-8")] == ["hospital-idp"]


def issuer(*arguments: str, stdin: str = "", monkeypatch: pytest.MonkeyPatch | None = None) -> str:
    if monkeypatch is not None:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    out = io.StringIO()
    call_command("assertion_issuer", *arguments, "--actor", "erin", stdout=out)
    return out.getvalue()


def test_the_command_registers_an_issuer_changes_its_keys_and_suspends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    idp = Provider()
    issuer("register", idp.name, "--iss", idp.iss)
    issuer("add-key", idp.name, "--kid", idp.kid, stdin=public_pem(idp.key), monkeypatch=monkeypatch)
    assert set(selectors.snapshot().issuers[idp.iss].keys) == {idp.kid}
    listed = json.loads(issuer("list"))
    assert (listed["name"], listed["iss"], listed["keys"][0]["kid"]) == (idp.name, idp.iss, idp.kid)
    issuer("suspend", idp.name)
    assert AssertionIssuer.objects.get().state == "suspended"
    issuer("resume", idp.name)
    issuer("retire-key", idp.name, "--kid", idp.kid)
    assert not selectors.snapshot().issuers[idp.iss].keys
    with pytest.raises(CommandError, match="issuer_unknown"):
        issuer("suspend", "nobody")
    with pytest.raises(CommandError, match="issuer_key_unreadable"):
        issuer("add-key", idp.name, "--kid", "x", stdin="x", monkeypatch=monkeypatch)


def test_a_key_can_be_issued_with_a_scope_and_rotated_by_command() -> None:
    out = io.StringIO()
    call_command(
        "issue_key", "ward-7", "--actor", "erin", "--json", "--task", "progress_note", "--network", "10.1.2.0/24",
        "--lane", "batch", "--certificate", ":".join(["AB"] * 32), stdout=out,
    )  # fmt: skip
    key = json.loads(out.getvalue())
    found = selectors.snapshot().of_key(key["key"], now=now())
    assert found is not None
    assert (found.rights.tasks, found.rights.lane) == (frozenset({"progress_note"}), Lane.BATCH)
    assert (found.bounds.networks, found.bounds.certificate) == (rules.networks(["10.1.2.0/24"]), "ab" * 32)
    out = io.StringIO()
    call_command("rotate_key", key["prefix"], "--actor", "erin", "--overlap-hours", "2", "--json", stdout=out)
    after = selectors.snapshot().of_key(json.loads(out.getvalue())["key"], now=now())
    assert after is not None
    assert after.bounds == found.bounds
    with pytest.raises(CommandError, match="key_unknown"):
        call_command("rotate_key", "iwk_00000000", "--actor", "erin")
