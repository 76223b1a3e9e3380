"""How many queries a page asks: a ceiling for each, and the same number whatever the length of the list."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from appliance.alerts import services as alerting
from appliance.alerts.rules import Severity
from inference.clients import services as clients
from tests.console.conftest import Enter
from tests.console.door import SignedIn

pytestmark = pytest.mark.django_db

# Twelve, shell and all; a page that asks less keeps what it saved.
CEILINGS = {
    "/": 12,
    "/playground": 12,
    "/queue": 12,
    "/queue/jobs": 12,
    "/queue/batches": 12,
    "/media": 11,
    "/releases": 10,
    "/changes": 12,
    "/clients": 10,
    "/staff": 11,
    "/tasks": 9,
    "/tasks/progress_note": 12,
    "/audit": 12,
    "/gpus": 12,
    "/alerts": 12,
    "/profile": 12,
}


def asked(person: SignedIn, path: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert person.get(path).status_code == 200
    return len(queries)


def test_each_page_stays_under_its_ceiling_and_does_not_ask_more_for_a_longer_list(door: Enter) -> None:
    who = {"/audit": door("dave"), "/playground": door("alice"), "/clients": door("erin"), "/staff": door("erin")}
    bob = door("bob")
    grow(1)
    before = {path: asked(who.get(path, bob), path) for path in CEILINGS}
    grow(6)
    after = {path: asked(who.get(path, bob), path) for path in CEILINGS}
    assert {path: count for path, count in before.items() if count > CEILINGS[path]} == {}
    assert {path: (before[path], after[path]) for path in CEILINGS if after[path] > before[path]} == {}


def grow(number: int) -> None:
    """More clients with keys, and more alerts."""
    for n in range(number):
        name = f"app-{number}-{n}"
        clients.create_client(
            actor="erin",
            name=name,
            title=name,
            owner="IT",
            tasks=["progress_note"],
            purposes=["TREAT"],
            lane="batch",
            phi=False,
        )
        clients.issue_key(actor="erin", client=name, life=timedelta(days=1))
        alerting.open_(actor="test", key=f"test.{name}", severity=Severity.WARNING, title="A test")
