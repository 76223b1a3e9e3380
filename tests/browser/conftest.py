"""A real Chromium on the whole box, and people in front of it. Whatever a page complains about fails its test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

from provisioning.evaluation.site_file import REPOSITORY
from tests.box import Box

SCREENSHOTS = REPOSITORY / "var" / "screenshots"
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
LOOKED_AT = (1440, 390, 360)
HERE = Path(__file__).parent
# Two cores run an engine, a browser and eleven processes: a page may take its time, a promise may not.
PATIENCE_MS = 60_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After the flows: these leave a newer version serving, and the flows begin with the first."""
    items.sort(key=lambda item: item.path.is_relative_to(HERE))


@dataclass
class Visitor:
    """Somebody with a browser of their own."""

    box: Box
    name: str
    context: BrowserContext
    page: Page
    home: str
    problems: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(self.home + path)
        return self.page

    def sign_in(self) -> Visitor:
        """Both steps, as a person does them."""
        page = self.open("/sign-in")
        page.get_by_label("Name", exact=True).fill(self.name)
        page.get_by_label("Password").fill(self.box.person(self.name).password)
        page.get_by_role("button", name="Continue").click()
        page.get_by_label("Code").fill(self.box.code(self.name))
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Overview").wait_for()
        return self

    def step_up_if_asked(self) -> None:
        """Show the second factor again, where it is more than five minutes old."""
        if self.page.get_by_role("heading", name="Show your second factor again").count():
            self.page.get_by_label("Code").fill(self.box.code(self.name))
            self.page.get_by_role("button", name="Go on").click()
            self.page.wait_for_url(lambda url: "/step-up" not in url)

    def approve(self, change_id: int) -> None:
        """Sign a change with both factors again."""
        page = self.open(f"/changes/{change_id}")
        page.get_by_label("Your password").fill(self.box.person(self.name).password)
        page.get_by_label("One-time code").fill(self.box.code(self.name))
        page.get_by_role("button", name=f"Approve change {change_id}").click()
        page.get_by_text(f"You have signed change {change_id}.").wait_for()


def look(page: Page, name: str) -> None:
    """A page's picture, light and dark, wide and narrow; and nothing scrolls sideways."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in LOOKED_AT:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate(SIDEWAYS) <= 0, f"{name} scrolls sideways at {width}"
            page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    page.set_viewport_size({"width": LOOKED_AT[0], "height": 900})
    page.emulate_media(color_scheme="light")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def sessions() -> dict[str, Any]:
    """Who signed in once, so that a one-time code is not spent on every test."""
    return {}


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(box: Box, chromium: Browser, sessions: dict[str, Any]) -> Iterator[Visit]:
    """`visit("alice")`: alice with a browser, signed in; `visit("")`: a stranger. `home`: under another name of the box."""
    visitors: list[Visitor] = []

    def come(name: str, *, home: str = "", **context: Any) -> Visitor:
        kept = {"storage_state": sessions[name]} if name in sessions else {}
        opened = chromium.new_context(**kept, **context)
        opened.set_default_timeout(PATIENCE_MS)
        visitor = Visitor(box, name, opened, opened.new_page(), home or box.console_url)
        visitors.append(visitor)
        watch(visitor)
        if name and not kept:
            visitor.sign_in()
            sessions[name] = opened.storage_state()
        return visitor

    yield come
    problems = [f"{visitor.name or 'a stranger'}: {problem}" for visitor in visitors for problem in visitor.problems]
    for visitor in visitors:
        visitor.context.close()
    assert problems == []


def watch(visitor: Visitor) -> None:
    """Note what a page must never do: complain, break, or speak to anybody but the box."""

    def asked(request: Request) -> None:
        if not request.url.startswith((visitor.home + "/", "data:,")):
            visitor.problems.append(f"asked another host: {request.url}")

    def said(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            visitor.problems.append(message.text)

    def answered(response: Response) -> None:
        if response.status >= 500:
            visitor.problems.append(f"{response.status} {response.url}")

    visitor.page.on("console", said)
    visitor.page.on("pageerror", lambda error: visitor.problems.append(str(error)))
    visitor.page.on("request", asked)
    visitor.page.on("response", answered)
