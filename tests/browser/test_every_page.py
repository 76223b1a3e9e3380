"""Every page at a desk and on a telephone, light and dark: nothing complains, nothing scrolls sideways, a picture is left."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.box import Box
from tests.browser.conftest import SCREENSHOTS, SIDEWAYS, Visit, Visitor

pytestmark = pytest.mark.timeout(600)

WIDTHS = (1440, 390)
NARROWEST = 360


@dataclass(frozen=True)
class Shown:
    """A page, and somebody of the cast who may open it; `path` may hold the result of `query`."""

    name: str
    who: str
    path: str
    query: str = ""


PAGES = (
    Shown("status", "", "/status"),
    Shown("sign-in", "", "/sign-in"),
    Shown("overview", "bob", "/"),
    Shown("queue", "bob", "/queue"),
    Shown("media", "alice", "/media"),
    Shown("import", "alice", "/media/imports/{}", "SELECT max(id) FROM releases_import"),
    Shown("releases", "alice", "/releases"),
    Shown("release", "alice", "/releases/{}", "SELECT digest FROM releases_release ORDER BY id DESC LIMIT 1"),
    Shown("changes", "bob", "/changes"),
    Shown("change", "bob", "/changes/{}", "SELECT max(id) FROM changes_change"),
    Shown("clients", "erin", "/clients"),
    Shown("client", "erin", "/clients/at/{}", "SELECT name FROM clients_client ORDER BY id LIMIT 1"),
    Shown("client-new", "erin", "/clients/new"),
    Shown("staff", "erin", "/staff"),
    Shown("person", "erin", "/staff/bob"),
    Shown("person-factors", "erin", "/staff/bob/factors"),
    Shown("profile", "bob", "/profile"),
    Shown("audit", "dave", "/audit"),
    Shown("audit-record", "dave", "/audit/1/1"),
    Shown("gpus", "bob", "/gpus"),
    Shown("gpus-year", "bob", "/gpus?window=year"),
    Shown("alerts", "alice", "/alerts"),
)


def look(visitor: Visitor, shown: Shown, path: str, scheme: str) -> None:
    page = visitor.page
    for width in (*WIDTHS, NARROWEST):
        page.set_viewport_size({"width": width, "height": 900})
        visitor.open(path)
        assert page.evaluate(SIDEWAYS) <= 0, f"{shown.name} scrolls sideways at {width}"
        if width in WIDTHS:
            page.screenshot(path=SCREENSHOTS / f"{shown.name}-{width}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_well_at_every_width_and_leaves_its_picture(box: Box, visit: Visit, scheme: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    visitors: dict[str, Visitor] = {}
    for shown in PAGES:
        if shown.who not in visitors:
            visitors[shown.who] = visit(shown.who, color_scheme=scheme)
        path = shown.path.format(box.sql(shown.query)[0][0]) if shown.query else shown.path
        look(visitors[shown.who], shown, path, scheme)


def test_refusals_look_like_the_rest(box: Box, visit: Visit) -> None:
    bob = visit("bob")
    for name, path in (("forbidden", "/audit"), ("not-found", "/no-such-page")):
        look(bob, Shown(name, "bob", path), path, "light")
    # Chromium itself notes a 403 and a 404; anything else is ours.
    assert all("403" in problem or "404" in problem for problem in bob.problems)
    bob.problems.clear()


def test_the_menu_opens_on_a_telephone_without_scripts(visit: Visit) -> None:
    bob = visit("bob", viewport={"width": 390, "height": 800}, java_script_enabled=False)
    page = bob.open("/")
    assert not page.get_by_role("link", name="Releases", exact=True).is_visible()
    page.get_by_role("link", name="Menu").click()
    page.get_by_role("link", name="Releases", exact=True).click()
    page.get_by_role("heading", name="Releases").wait_for()
