"""Every list narrows, orders and pages on the server: hundreds of rows, each on one page, at most twelve queries."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.changes.models import Change
from inference.clients.models import Client
from inference.releases.models import Import, Release
from tests.console.conftest import Enter
from tests.console.door import SignedIn, text

pytestmark = pytest.mark.django_db

MANY = 230
MOST_QUERIES = 12
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
ROW = re.compile(r'<td class="main-cell">(?:<a href="[^"]*">)?(?:<code>)?([^<]+)')


def releases() -> None:
    Release.objects.bulk_create(
        Release(
            digest=f"{number:064x}", name=f"model-{number % 5}", version=number, title=f"Title {number}",
            family=f"family-{number % 3}", manifest={}, files={"a": {"length": 1, "sha256": "0" * 64}}, verdict={},
            received_by="alice", withdrawn_at=WHEN if number % 10 == 0 else None,
        )
        for number in range(MANY)
    )  # fmt: skip


def imports() -> None:
    Import.objects.bulk_create(
        Import(
            media="/media/a", bundle=f"bundle-{number}", actor="alice" if number % 2 else "zoe", started=WHEN,
            state="refused" if number % 4 == 0 else "cancelled", code="bad_signature", finished=WHEN,
        )
        for number in range(MANY)
    )  # fmt: skip


def changes() -> None:
    Change.objects.bulk_create(
        Change(
            kind="release.activate", subject=f"{number:064x}", facts={"bundle": f"model-{number}"}, quorum=2,
            proposer="alice" if number % 2 else "zoe", digest="d" * 64, reason=f"Reason {number}",
            state="rejected" if number % 4 == 0 else "executed",
        )
        for number in range(MANY)
    )  # fmt: skip


def clients() -> None:
    Client.objects.bulk_create(
        Client(
            name=f"ward-{number}", title=f"Ward {number}", owner=f"Owner {number % 7}", tasks=["progress_note"],
            purposes=["TREAT"], lane=("stat", "batch")[number % 2], phi=True,
            state="suspended" if number % 4 == 0 else "active",
        )
        for number in range(MANY)
    )  # fmt: skip


def records() -> None:
    for number in range(MANY):
        audit.record(actor=f"robot-{number % 2}", action=Action.ALERT_OPENED, target=f"thing-{number}")


@dataclass(frozen=True)
class A:
    """A list: where, by whom, how it is filled, an order and its opposite, a filter and how many it leaves."""

    path: str
    who: str
    fill: Callable[[], None]
    orders: tuple[str, ...]
    narrow: str
    left: int
    bad: str


LISTS = (
    A("/releases", "alice", releases, ("name", "version", "state", "family", "received"), "state=withdrawn", 23, "state=gone"),
    A("/media", "alice", imports, ("bundle", "state", "by", "started"), "state=refused", 58, "state=lost"),
    A("/changes", "bob", changes, ("number", "state", "proposer"), "state=rejected", 58, "state=open"),
    A("/clients", "erin", clients, ("name", "state", "owner", "lane"), "state=suspended", 58, "lane=fast"),
)  # fmt: skip
each = pytest.mark.parametrize("of", LISTS, ids=lambda of: of.path.strip("/"))


def asked(person: SignedIn, path: str) -> str:
    with CaptureQueriesContext(connection) as queries:
        response = person.get(path)
    assert response.status_code == 200, path
    assert len(queries) <= MOST_QUERIES, f"{path}: {len(queries)} queries"
    return text(response)


def rows(page: str) -> list[str]:
    """The first cell of each row of the list, and of nothing else on the page."""
    body = page[page.index('<div id="list">') :]
    return ROW.findall(body) if "<tbody>" in body else []


def through(person: SignedIn, path: str) -> list[list[str]]:
    """All pages of a list, by its own links."""
    pages = []
    while path:
        page = asked(person, path)
        pages.append(
            [
                re.sub(r"\s+", " ", row)
                for row in re.findall(r"<tr>(.*?)</tr>", page[page.index('id="list"') :], re.DOTALL)[1:]
            ]
        )
        found = re.search(r'id="page-next" href="([^"]+)"', page)
        path = found.group(1).replace("&amp;", "&") if found else ""
        assert len(pages) < 20
    return pages


@each
def test_each_row_is_on_one_page_whatever_the_order(of: A, door: Enter) -> None:
    of.fill()
    person = door(of.who)
    for order in of.orders:
        pages = through(person, f"{of.path}?order={order}")
        falling = through(person, f"{of.path}?order=-{order}")
        assert [len(page) for page in pages] == [50, 50, 50, 50, 30]
        once = {row for page in pages for row in page}
        assert len(once) == MANY, order
        assert {row for page in falling for row in page} == once
        assert falling[0] != pages[0] or order != of.orders[0]


@each
def test_a_filter_leaves_what_matches_and_keeps_itself_and_the_order_on_the_next_page(of: A, door: Enter) -> None:
    of.fill()
    person = door(of.who)
    pages = through(person, f"{of.path}?{of.narrow}&order={of.orders[0]}")
    assert sum(map(len, pages)) == of.left
    assert f"of {of.left}" in asked(person, f"{of.path}?{of.narrow}")
    nothing = asked(person, f"{of.path}?{of.narrow}&{'bundle' if of.path == '/media' else 'text'}=no-such-thing")
    assert rows(nothing) == []
    assert "Nothing matches" in nothing


@each
def test_a_filter_that_cannot_be_read_shows_nothing_and_an_order_or_page_that_is_none_is_the_first(
    of: A, door: Enter
) -> None:
    of.fill()
    person = door(of.who)
    refused = asked(person, f"{of.path}?{of.bad}")
    assert rows(refused) == []
    assert "This filter cannot be read, so nothing is shown." in refused
    assert rows(asked(person, f"{of.path}?text=%00&bundle=%00")) == []
    plain = rows(asked(person, of.path))
    assert len(plain) == 50
    for odd in (
        "order=password",
        "order=--name",
        "page=0",
        "page=-1",
        "page=x",
        "page=%D9%A3",
        "page=1e3",
        "colour=red",
    ):
        assert rows(asked(person, f"{of.path}?{odd}")) == plain, odd
    past = asked(person, f"{of.path}?page=99999")
    assert rows(past) in ([], plain)
    assert "past the end" in asked(person, f"{of.path}?page=200")


@each
def test_the_headings_are_links_and_say_how_the_list_is_ordered(of: A, door: Enter) -> None:
    of.fill()
    page = asked(door(of.who), f"{of.path}?order=-{of.orders[1]}")
    assert page.count("aria-sort=") == 1
    heading = page[page.index('aria-sort="descending"') :].partition("</th>")[0]
    assert f'id="order-{of.orders[1]}"' in heading
    assert f"order={of.orders[1]}" in heading, "a second press turns it round"


def test_text_of_a_filter_is_text(door: Enter) -> None:
    clients()
    erin = door("erin")
    assert rows(asked(erin, "/clients?text=%25")) == [], "a per cent sign is no wildcard"
    assert rows(asked(erin, "/clients?text=ward_1")) == []
    page = asked(erin, "/clients?text=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "<script>alert" not in page


def test_the_log_pages_by_key_both_ways_and_each_record_is_there_once(door: Enter) -> None:
    records()
    dave = door("dave")
    for order in ("", "&order=when"):
        pages = through(dave, f"/audit?action=alert.opened{order}")
        assert [len(page) for page in pages] == [50, 50, 50, 50, 30]
        assert len({row for page in pages for row in page}) == MANY
    oldest = asked(dave, "/audit?action=alert.opened&order=when")
    assert "thing-0<" in oldest
    assert 'aria-sort="ascending"' in oldest
    refused = asked(dave, "/audit?action=none")
    assert "This search cannot be read, so nothing is shown." in refused


def test_a_list_is_not_counted_beyond_its_limit(door: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    clients()
    monkeypatch.setattr("console.listing.MOST", 100)
    assert "1 to 50 of more than 100" in asked(door("erin"), "/clients")
