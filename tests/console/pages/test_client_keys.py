"""Keys: one with less than its client may, one for another, and none by accident."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network

import pytest

from inference.clients import selectors as clients
from inference.clients import services as client_services
from inference.clients.rules import LONGEST_OVERLAP, Narrowing
from inference.policy.catalog import Feature, Lane
from tests.console.conftest import Enter
from tests.console.door import SignedIn, records, text
from tests.simulators.identity import Provider

pytestmark = pytest.mark.django_db

ISSUE = "/clients/at/ward-7/issue"


@pytest.fixture
def erin(door: Enter) -> SignedIn:
    client_services.create_client(
        actor="erin", name="ward-7", title="Ward 7", owner="Nursing", tasks=["progress_note", "visit_summary"],
        purposes=["TREAT", "HOPERAT"], lane="interactive", phi=True, features=["tools", "logprobs"],
        tools=["lookup", "order"],
    )  # fmt: skip
    return door("erin")


def once(person: SignedIn, path: str = ISSUE) -> str:
    found = re.search(r'name="once" value="([^"]+)"', text(person.get(path)))
    assert found
    return found.group(1)


def test_a_key_keeps_what_was_ticked_and_the_page_says_so(erin: SignedIn) -> None:
    answer = erin.post(
        ISSUE, once=once(erin), days="90", tasks=["progress_note"], purposes=["TREAT"], features=["tools"],
        tools=["lookup"], no_phi="on", lane="batch", models="m-1 m-2", networks="10.1.2.0/24\n10.1.3.7\n",
        certificate=":".join(["AB"] * 32),
    )  # fmt: skip
    assert "iwk_" in text(answer)
    scope = clients.client("ward-7").keys[0].scope
    only, bounds = scope.only, scope.bounds
    assert only == Narrowing(
        tasks=frozenset({"progress_note"}),
        purposes=frozenset({"TREAT"}),
        lane=Lane.BATCH,
        phi=False,
        models=frozenset({"m-1", "m-2"}),
        features=frozenset({Feature.TOOLS}),
        tools=frozenset({"lookup"}),
    )
    assert bounds.networks == (ip_network("10.1.2.0/24"), ip_network("10.1.3.7/32"))
    assert bounds.certificate == "ab" * 32
    page = text(erin.get("/clients/at/ward-7"))
    for said in ("tasks: progress_note", "no patient data", "10.1.2.0/24", "lane: batch", "models: m-1, m-2"):
        assert said in page
    assert json.loads(records(action="client.key_issued")[0].detail)["scope"]["networks"] == [
        "10.1.2.0/24",
        "10.1.3.7/32",
    ]


def test_nothing_ticked_takes_nothing_away_and_text_only_takes_all_the_rest(erin: SignedIn) -> None:
    erin.post(ISSUE, once=once(erin), days="90")
    erin.post(ISSUE, once=once(erin), days="90", plain="on", tools=["lookup"])
    plain, wide = (key.scope.only for key in clients.client("ward-7").keys)
    assert (wide.tasks, wide.features, wide.tools, wide.phi) == (None, None, None, True)
    assert (plain.features, plain.tools, plain.tasks) == (frozenset(), frozenset(), None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tasks", ["data_analyst"]), ("purposes", ["HMARKT"]), ("features", ["json_schema"]), ("tools", ["shell"]),
        ("lane", "stat"), ("lane", "vip"), ("networks", "10.1.2.3/24"), ("networks", "ward-7"), ("models", "a/b"),
        ("days", "36500"), ("days", ""),
    ],
)  # fmt: skip
def test_a_key_with_more_than_its_client_has_or_with_nonsense_is_not_issued(
    erin: SignedIn, field: str, value: object
) -> None:
    response = erin.post(ISSUE, **{"once": once(erin), "days": "90", field: value})
    assert response.status_code == 200
    assert "iwk_" not in text(response)
    assert clients.client("ward-7").keys == ()


def test_a_certificate_that_is_none_is_refused_by_the_service_and_on_record(erin: SignedIn) -> None:
    assert erin.post(ISSUE, once=once(erin), days="90", certificate="AB:CD").status_code == 302
    assert clients.client("ward-7").keys == ()
    assert records(kind="refusal", actor="erin")[0].outcome == "certificate_fingerprint"


def test_a_rotated_key_is_shown_once_and_the_old_one_gets_its_end(erin: SignedIn) -> None:
    old = client_services.issue_key(actor="erin", client="ward-7")
    path = f"/clients/at/ward-7/keys/{old.prefix}/rotate"
    token = once(erin, path)
    answer = text(erin.post(path, once=token, days="90", hours="24"))
    key = re.search(r"iwk_[\w-]{20,}", answer)
    assert key
    new, before = clients.client("ward-7").keys
    assert key.group(0).startswith(new.prefix)
    assert before.expires < old.expires
    assert before.replaced
    assert erin.post(path, once=token, days="90", hours="24").status_code == 302
    assert len(clients.client("ward-7").keys) == 2
    assert key.group(0) not in text(erin.get("/clients/at/ward-7"))
    assert records(action="client.key_rotated")[0].actor == "erin"


def test_a_key_that_was_replaced_or_is_another_clients_is_not_rotated(erin: SignedIn) -> None:
    old = client_services.issue_key(actor="erin", client="ward-7")
    client_services.rotate_key(actor="erin", prefix=old.prefix, overlap=LONGEST_OVERLAP)
    path = f"/clients/at/ward-7/keys/{old.prefix}/rotate"
    response = erin.browser.post(path, {"once": once(erin, path), "days": "90", "hours": "1"}, follow=True)
    assert "key_replaced" in text(response)
    client_services.create_client(
        actor="erin", name="ward-8", title="8", owner="8", tasks=["progress_note"], purposes=["TREAT"], lane="batch",
        phi=False,
    )  # fmt: skip
    assert erin.get(f"/clients/at/ward-8/keys/{old.prefix}/rotate").status_code == 404


def test_the_page_lists_who_may_vouch_for_the_clients_users(erin: SignedIn) -> None:
    Provider().register()
    Provider(name="elsewhere", iss="https://elsewhere.example", kid="k").register()
    client_services.set_issuer_state(actor="erin", issuer="elsewhere", active=False)
    page = text(erin.get("/clients/at/ward-7"))
    assert "https://idp.hospital.example" in page
    assert "2026-11, ES256" in page
    assert "Does not count" in page
