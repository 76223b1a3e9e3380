"""Clients and their keys: shown once, kept as a hash, ended on time."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from appliance.audit.models import Record
from inference.clients import keys, selectors, services
from inference.clients.errors import ClientNotFoundError, ClientRefusedError
from inference.clients.models import ApiKey, Client
from inference.policy.catalog import Feature, Lane
from inference.policy.rules import Rights

pytestmark = pytest.mark.django_db

WARD: dict[str, Any] = {
    "name": "ward-7",
    "title": "Ward 7",
    "owner": "Nursing",
    "tasks": ["visit_summary", "progress_note"],
    "purposes": ["TREAT"],
    "lane": "interactive",
    "phi": True,
}


def now() -> datetime:
    return datetime.now(UTC)


def rights_of(key: services.IssuedKey) -> Rights:
    held = selectors.snapshot().of_key(key.plaintext, now=now())
    assert held is not None
    return held.rights


@pytest.fixture
def key() -> services.IssuedKey:
    services.create_client(actor="erin", **WARD)
    return services.issue_key(actor="erin", client="ward-7")


def test_a_key_opens_with_the_rights_of_its_client(key: services.IssuedKey) -> None:
    rights = rights_of(key)
    assert (rights.client, rights.key_id, rights.lane) == ("ward-7", key.prefix, Lane.INTERACTIVE)
    assert rights.tasks == {"visit_summary", "progress_note"}


def test_a_keys_text_is_in_no_row_and_no_repr(key: services.IssuedKey) -> None:
    secret = key.plaintext.removeprefix(key.prefix)
    with connection.cursor() as cursor:
        for table in ("clients_client", "clients_apikey", "audit_record"):
            cursor.execute(f"SELECT string_agg(t::text, ' ') FROM {table} t")  # noqa: S608 - our own three names
            assert secret not in cursor.fetchone()[0]
    assert secret not in repr(key)
    assert len(secret) >= 43


def test_two_keys_never_look_alike() -> None:
    made = {keys.make().plaintext for _ in range(1000)}
    assert len(made) == 1000
    assert all(keys.well_formed(text) for text in made)


@pytest.mark.parametrize("text", ["", "iwk_", "iwk_00000000_", "x" * 56, "IWK_00000000_" + "a" * 43])
def test_what_does_not_look_like_a_key_is_never_looked_up(text: str) -> None:
    assert not keys.well_formed(text)


def test_keys_may_overlap_and_end_one_by_one(key: services.IssuedKey) -> None:
    second = services.issue_key(actor="erin", client="ward-7")
    assert services.revoke_key(actor="erin", prefix=key.prefix)
    assert not services.revoke_key(actor="erin", prefix=key.prefix)
    snapshot = selectors.snapshot()
    assert snapshot.of_key(key.plaintext, now=now()) is None
    assert snapshot.of_key_id(key.prefix, now=now()) is None
    assert snapshot.of_key(second.plaintext, now=now()) is not None
    assert snapshot.of_key_id(second.prefix, now=now()) is not None


def test_a_key_ends_at_its_hour_between_two_snapshots(key: services.IssuedKey) -> None:
    snapshot = selectors.snapshot()
    assert snapshot.of_key(key.plaintext, now=key.expires - timedelta(seconds=1)) is not None
    assert snapshot.of_key(key.plaintext, now=key.expires) is None


def test_an_expired_key_is_not_in_the_snapshot_at_all(key: services.IssuedKey) -> None:
    ApiKey.objects.update(created=now() - timedelta(days=2), expires=now() - timedelta(days=1))
    assert not selectors.snapshot().by_hash


def test_a_suspended_client_has_no_rights_and_gets_no_key(key: services.IssuedKey) -> None:
    services.set_state(actor="erin", client="ward-7", active=False)
    assert selectors.snapshot().of_key(key.plaintext, now=now()) is None
    with pytest.raises(ClientRefusedError):
        services.issue_key(actor="erin", client="ward-7")
    services.set_state(actor="erin", client="ward-7", active=True)
    assert selectors.snapshot().of_key(key.plaintext, now=now()) is not None


def test_grants_are_replaced_whole(key: services.IssuedKey) -> None:
    services.set_grants(
        actor="erin", client="ward-7", tasks=["urgency_classification"], purposes=["ETREAT"], lane="stat", phi=False,
        features=["tools"], tools=["lookup"], assertion_required=True,
    )  # fmt: skip
    rights = rights_of(key)
    assert rights.tasks == {"urgency_classification"}
    assert rights.purposes == {"ETREAT"}
    assert (rights.lane, rights.phi) == (Lane.STAT, False)
    assert rights.features == {Feature.TOOLS}
    assert rights.tools == {"lookup"}
    assert selectors.client("ward-7").assertion_required


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "Ward 7"}, "client_name"),
        ({"name": "a"}, "client_name"),
        ({"tasks": []}, "task_unknown"),
        ({"tasks": ["essay"]}, "task_unknown"),
        ({"purposes": []}, "purpose_unknown"),
        ({"purposes": ["BILLING"]}, "purpose_unknown"),
        ({"lane": "vip"}, "lane_unknown"),
    ],
)
def test_a_client_without_a_registered_use_is_refused(change: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientRefusedError) as refused:
        services.create_client(actor="erin", **{**WARD, **change})
    assert refused.value.code == code
    assert Client.objects.count() == 0


def test_a_name_is_taken_once(key: services.IssuedKey) -> None:
    with pytest.raises(ClientRefusedError) as refused:
        services.create_client(actor="erin", **WARD)
    assert refused.value.code == "client_exists"


def test_a_client_or_key_that_is_not_there_is_said_so() -> None:
    with pytest.raises(ClientNotFoundError):
        services.issue_key(actor="erin", client="nobody")
    with pytest.raises(ClientNotFoundError):
        services.revoke_key(actor="erin", prefix="iwk_00000000")


@pytest.mark.parametrize("days", [0, -1, 731])
def test_a_key_lives_at_most_two_years(key: services.IssuedKey, days: int) -> None:
    with pytest.raises(ClientRefusedError):
        services.issue_key(actor="erin", client="ward-7", life=timedelta(days=days))


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": ["essay"]}, {"tasks": []}, {"purposes": ["BILLING"]}, {"purposes": []}, {"lane": "vip"},
        {"state": "ghost"},
    ],
)  # fmt: skip
def test_the_database_holds_the_rule_too(key: services.IssuedKey, change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Client.objects.update(**change)


def test_each_act_is_on_record_with_its_actor(key: services.IssuedKey) -> None:
    services.revoke_key(actor="frank", prefix=key.prefix)
    rows = Record.objects.filter(client="ward-7").order_by("seq").values_list("action", "actor")
    assert list(rows) == [
        ("client.created", "erin"),
        ("client.key_issued", "erin"),
        ("client.key_revoked", "frank"),
    ]


def create(monkeypatch: pytest.MonkeyPatch, wanted: Any) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO(wanted if isinstance(wanted, str) else json.dumps(wanted)))
    out = io.StringIO()
    call_command("create_client", "--actor", "erin", stdout=out)
    return out.getvalue().strip()


def test_the_command_registers_a_client_and_prints_its_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = create(monkeypatch, WARD)
    assert selectors.snapshot().of_key(first, now=now()) is not None
    again = create(monkeypatch, WARD)
    assert again != first
    assert len(selectors.client("ward-7").keys) == 2


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "[]",
        {"name": "ward-7"},
        {**WARD, "admin": True},
        {**WARD, "phi": 1},
        {**WARD, "tasks": [1]},
        {**WARD, "tasks": [["a"]]},
        {**WARD, "tools": "x"},
    ],
)
def test_the_command_takes_exactly_its_fields(monkeypatch: pytest.MonkeyPatch, wanted: Any) -> None:
    with pytest.raises(CommandError):
        create(monkeypatch, wanted)
    assert Client.objects.count() == 0


def test_the_command_never_changes_rights_by_registering_again(monkeypatch: pytest.MonkeyPatch) -> None:
    create(monkeypatch, WARD)
    with pytest.raises(CommandError, match="other rights"):
        create(monkeypatch, {**WARD, "lane": "stat"})
    with pytest.raises(CommandError, match="other rights"):
        create(monkeypatch, {**WARD, "features": ["tools"]})


def test_the_command_grants_features_and_tools_where_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {**WARD, "features": ["tools"], "tools": ["lookup"], "assertion_required": True}
    for _ in range(2):
        create(monkeypatch, wanted)
    here = selectors.client("ward-7")
    assert (here.features, here.tools, here.assertion_required) == (("tools",), ("lookup",), True)
    assert len(here.keys) == 2


def test_a_key_can_be_issued_by_command(key: services.IssuedKey) -> None:
    out = io.StringIO()
    call_command("issue_key", "ward-7", "--actor", "erin", "--json", stdout=out)
    facts = json.loads(out.getvalue())
    assert selectors.snapshot().of_key(facts["key"], now=now()) is not None
    with pytest.raises(CommandError, match="client_unknown"):
        call_command("issue_key", "nobody", "--actor", "erin")
