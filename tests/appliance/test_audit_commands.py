"""`seal_audit` and `verify_audit` as an operator types them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import transaction
from pytest_django.fixtures import Settings

from appliance.audit import selectors, services
from appliance.audit.actions import Action
from provisioning.site_config import Site

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """The sealer takes over SIGTERM and SIGINT; the test run gets them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def own_memory(site: Site, settings: Settings, tmp_path: Path) -> None:
    """A sealer's memory of this test's log alone."""
    settings.SITE = replace(site, state_dir=tmp_path)


def act(request_id: str) -> None:
    with transaction.atomic():
        services.record(actor="erin", action=Action.CLIENT_CREATED, target="ward-7", request_id=request_id)


def verify(*arguments: str) -> dict[str, Any]:
    out = StringIO()
    call_command("verify_audit", "--json", *arguments, stdout=out)
    return dict(json.loads(out.getvalue()))


def test_what_was_sealed_verifies_and_the_records_of_a_request_are_shown() -> None:
    act("r-1")
    act("r-2")
    call_command("seal_audit", once=True)

    report = verify("--request", "r-1")

    assert (report["ok"], report["sealed"], report["unsealed"]) == (True, 2, 0)
    (row,) = report["records"]
    assert (row["action"], row["actor"]) == ("client.created", "erin")


def test_looking_is_itself_on_record() -> None:
    act("r-1")
    call_command("seal_audit", once=True)
    verify()

    (newest, _) = selectors.search(selectors.Query())

    assert newest.action == Action.AUDIT_VERIFIED


def test_a_sealed_row_that_was_edited_ends_with_status_1_and_says_so() -> None:
    act("r-1")
    call_command("seal_audit", once=True)
    conninfo = settings.SITE.postgres.conninfo(settings.SITE.postgres.owner_role)
    with psycopg.connect(conninfo) as rogue:
        rogue.execute("UPDATE audit_record SET actor = 'mallory'")

    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify_audit", stdout=out)

    assert ended.value.code == 1
    assert "NOT WHOLE" in out.getvalue()
