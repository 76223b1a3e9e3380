"""Every page in Chromium: axe finds no violation of WCAG 2.2 A or AA, nothing scrolls sideways, nothing complains.

The pages are read from the site map, so a new one is looked at from the day it has an address: full and empty, as each
person of the cast who may open it, light and dark, at a desk and on a telephone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from appliance.audit import selectors as log
from tests.appliance import cast
from tests.console import sitemap
from tests.console.browse import EVERY_LOOK, REPOSITORY, Found, Visit, browse, chromium
from tests.console.conftest import Enter
from tests.console.door import SignedIn, cookies, in_chromium
from tests.console.furnished import Furnished, furnish
from tests.inference.releases.stage import Stage

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not chromium(), reason="chromium is not installed"),
]

CAST = ("", "alice", "bob", "dave", "erin", "grace")
# Opened by GET and no page of their own: parts of pages, and doors that lead on.
NO_PAGES = re.compile(r"-live$|-csv$|-json$|^sign-in-provider-back$")
# On a box with people, without an identity provider, to somebody who is between no steps: nothing there to look at here.
# tests/browser/ opens them on boxes of their own.
ELSEWHERE = {"enrol", "first-boot", "first-boot-people", "sign-in-clock", "sign-in-code", "sign-in-provider"}
# Where a picture of every page goes.
PICTURES = os.environ.get("PICTURES", str(REPOSITORY / "var" / "screenshots"))

Browsed = Callable[[list[Visit]], dict[str, Found]]


@pytest.fixture
def browsed(live_server: LiveServer) -> Browsed:
    """Make these visits on this test's own server."""
    return lambda visits: browse(live_server.url, visits)


@pytest.fixture
def people(transactional_db: None, door: Enter) -> Mapping[str, SignedIn | None]:
    """The cast with open sessions, and a stranger."""
    return {name: in_chromium(door(name).member) if name else None for name in CAST}


def members(people: Mapping[str, SignedIn | None]) -> dict[str, cast.Member]:
    """The cast without their browsers."""
    return {name: person.member for name, person in people.items() if person}


def addresses(made: Furnished | None) -> dict[str, str]:
    """Name to path, with arguments that name something where there is something."""
    paths = {}
    with pytest.MonkeyPatch.context() as patch:
        if made:
            record = log.search(log.Query(), limit=1)[0]
            for key, value in {
                "shard": record.shard, "seq": record.seq,
                "digest": made.proposed, "change_id": made.change, "import_id": made.import_, "prefix": made.key,
                "alert_id": made.alert, "username": "bob", "ref": made.job,
                "review_id": made.review, "opening_id": made.opening,
            }.items():  # fmt: skip
                patch.setitem(sitemap.FILLED, key, str(value))
        for address in sitemap.addresses():
            if not NO_PAGES.search(address.name):
                paths[address.name] = address.path
    if made:
        paths["batch"] = f"/queue/batches/{made.batch}"
    return paths


def visits(people: Mapping[str, SignedIn | None], made: Furnished | None, state: str) -> tuple[list[Visit], set[str]]:
    """A visit for each page and each person to whom it shows something else; the first looks at it in every way."""
    found, unopened = [], set()
    for name, path in addresses(made).items():
        openers: dict[str, str] = {}
        for who, person in people.items():
            response = (person.browser if person else Client()).get(path)
            if response.status_code == 200 and b"<html" in response.content:
                openers.setdefault(_content(response.content.decode()), who)
        if not openers:
            unopened.add(name)
        for number, who in enumerate(openers.values()):
            one = Visit(f"{name}-{state}-{who or 'stranger'}", path, cookies(people[who]))
            shot = PICTURES if number == 0 else ""
            found.append(replace(one, looks=EVERY_LOOK if number == 0 else EVERY_LOOK[:1], shot=shot))
    return found, unopened


def _content(page: str) -> str:
    """What a page shows without its shell, to tell whether another person sees anything else."""
    main = page.partition("<main")[2]
    return re.sub(r"<time.*?</time>|value=\"[^\"]*\"|\d+ s|\d\d:\d\d:\d\d", "", main)


def check(found: Mapping[str, Found]) -> None:
    """No page has anything to complain of; otherwise all of it is printed."""
    complaints = [f"{name}: {problem}" for name, one in found.items() for problem in one.problems]
    assert not complaints, "\n".join(complaints)


# Answer a POST and nothing else.
ACTS = {
    "sign-out", "import-start", "import-cancel", "release-propose", "release-roll-back", "change-approve",
    "change-reject", "change-withdraw", "client-suspend", "client-revoke", "person-deactivate", "profile-theme",
    "audit-verify", "alert-acknowledge", "playground-ask", "queue-resume", "job-stop", "batch-stop", "alert-channel-test",
    "emergency-agree", "emergency-ask", "emergency-close", "emergency-review", "gpu-event-acknowledge", "gpu-policy",
    "gpu-requalify", "person-enrolment", "person-patients", "person-reset-agree", "person-reset-ask",
    "person-reset-withdraw", "person-sign-out", "profile-generator-remove", "profile-key-remove", "profile-reset-stop",
    "profile-session-end", "profile-sessions-end-all", "review-begin", "review-decide", "review-sign",
}  # fmt: skip
# Name a row, and an empty box has none.
ROWS = {
    "import", "release", "change", "client", "client-grants", "client-issue", "client-rotate", "person", "audit-record", "job", "batch",
    "alert-silence", "emergency-opening", "person-factors", "review",
}  # fmt: skip


def test_every_page_of_a_box_in_use_is_accessible_in_every_look(
    people: Mapping[str, SignedIn | None], stage: Stage, browsed: Browsed
) -> None:
    made, unopened = visits(people, furnish(stage, members(people)), "full")
    assert sorted(unopened ^ (ACTS | ELSEWHERE)) == [], "a page nobody of the cast opened: nothing was looked at there"
    check(browsed(made))


def test_every_page_of_an_empty_box_is_accessible_in_every_look(
    people: Mapping[str, SignedIn | None], stage: Stage, browsed: Browsed
) -> None:
    made, unopened = visits(people, None, "empty")
    assert sorted(unopened - (ACTS | ROWS | ELSEWHERE)) == []
    check(browsed(made))


def test_every_form_that_was_refused_and_every_refusal_is_accessible(
    people: Mapping[str, SignedIn | None], stage: Stage, browsed: Browsed
) -> None:
    made = furnish(stage, members(people))
    alice, bob, dave, erin = (cookies(people[name]) for name in ("alice", "bob", "dave", "erin"))
    whole = "form[method=post].form"
    found = browsed(
        [
            Visit("sign-in-refused", "/sign-in", {}, [("submit", whole, "")]),
            Visit("client-new-refused", "/clients/new", erin, [("submit", whole, "")]),
            Visit("grants-refused", "/clients/at/ward-7/grants", erin, [("submit", whole, "")]),
            Visit("key-refused", "/clients/at/ward-7/issue", erin, [("submit", whole, "")]),
            Visit("proposal-refused", f"/releases/{made.served}", alice),
            Visit("approval-refused", f"/changes/{made.change}", bob, [("submit", "#approve form.form", "")]),
            Visit("search-refused", "/audit?kind=everything", dave),
            Visit("search-finds-nothing", "/audit?actor=nobody", dave),
            Visit("forbidden", "/audit", bob),
            Visit("not-found", "/no-such-page", bob),
        ]
    )
    check(found)


def test_what_looks_for_violations_finds_them(tmp_path: Path, live_server: LiveServer, people: object) -> None:
    """The checker itself, on a page with three faults; without it a silent checker would pass everything."""
    spoil = (
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"/static/console/mark.svg\"><input>"
        '<p><button class="copy" type="button"></button></p>\')'
    )
    wide = "document.body.insertAdjacentHTML('beforeend', '<pre>' + 'x'.repeat(4000) + '</pre>')"
    spoiled = Visit("spoiled", "/status", {}, [("run", "html", spoil), ("run", "html", wide)])
    problems = browse(live_server.url, [spoiled])["spoiled"].problems
    for fault in ("image-alt", "label", "button-name", "scrolls sideways"):
        assert any(fault in problem for problem in problems), fault
