"""Audit: search, paging, one record; and each reading is a record itself."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from django.db import transaction

from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.entry import now_us
from console.pages import audit as page
from tests.console.conftest import Enter
from tests.console.door import SignedIn, records, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def dave(door: Enter) -> SignedIn:
    return door("dave")


def write(count: int) -> None:
    with transaction.atomic():
        for number in range(count):
            audit.record(actor="system:test", action=Action.ALERT_OPENED, target=f"item-{number:04}")


def targets(html: str) -> list[str]:
    return re.findall(r"item-\d{4}", html)


def test_one_view_is_one_record_with_what_was_asked(dave: SignedIn) -> None:
    dave.get("/audit?actor=alice&action=change.opened")
    readings = records(action="audit.read")
    assert len(readings) == 1
    assert (readings[0].actor, readings[0].kind) == ("dave", "read")
    assert json.loads(readings[0].detail) == {"actor": "alice", "action": "change.opened", "shown": 0}


def test_reading_the_readings_adds_one_each_and_no_loop(dave: SignedIn) -> None:
    for expected in (1, 2, 3):
        dave.get("/audit?action=audit.read")
        assert len(records(action="audit.read")) == expected


def test_pages_follow_each_other_without_a_gap_or_a_repeat(dave: SignedIn, monkeypatch: pytest.MonkeyPatch) -> None:
    # All in one millisecond: a paging key that loses the last digits would lose or repeat rows.
    moments = itertools.count(now_us())
    monkeypatch.setattr("appliance.audit.services.now_us", lambda: next(moments))
    write(2 * page.PER_PAGE + 7)
    seen: list[str] = []
    where = "/audit?actor=system%3Atest"
    for _ in range(3):
        html = text(dave.get(where))
        seen += targets(html)
        older = re.search(r'href="/audit(\?[^"]+)" rel="next"', html)
        where = "/audit" + older.group(1).replace("&amp;", "&") if older else ""
    assert where == ""
    assert seen == [f"item-{number:04}" for number in reversed(range(2 * page.PER_PAGE + 7))]


@pytest.mark.parametrize("before", ["x", "1-2", "1-2-3-4", "-1-2-3", "9" * 40 + "-1-1", "\u0661-\u0661-\u0661"])
def test_an_odd_paging_key_shows_the_newest_page(dave: SignedIn, before: str) -> None:
    write(1)
    assert targets(text(dave.get(f"/audit?before={before}")))


def test_a_filter_that_cannot_be_read_shows_nothing_rather_than_everything(dave: SignedIn) -> None:
    write(1)
    html = text(dave.get("/audit?since=yesterday"))
    assert not targets(html)
    assert "This search cannot be read, so nothing is shown." in html


def test_a_record_opens_to_all_it_says(dave: SignedIn) -> None:
    write(1)
    row = records(actor="system:test")[0]
    html = text(dave.get(f"/audit/{row.shard}/{row.seq}"))
    assert row.leaf in html
    assert "item-0000" in html
    assert json.loads(records(action="audit.read")[0].detail) == {"record": f"{row.shard}/{row.seq}"}


def test_a_record_that_is_not_there_is_not_found(dave: SignedIn) -> None:
    for path in ("/audit/1/999999", "/audit/99/1", "/audit/1/" + "9" * 30):
        assert dave.get(path).status_code == 404


def test_verifying_is_recorded_with_what_came_of_it(dave: SignedIn) -> None:
    response = dave.browser.post("/audit/verify", follow=True)
    found = records(action="audit.verified")
    assert [row.actor for row in found] == ["dave"]
    # Nothing has been sealed in this test, so the log is not called whole.
    assert found[0].outcome != "ok"
    assert "The log is whole" not in text(response)


def test_who_may_not_read_the_log_leaves_a_refusal_in_it(door: Enter) -> None:
    assert door("alice").get("/audit").status_code == 403
    assert records(actor="alice", kind="refusal")[0].target == "GET /audit"
