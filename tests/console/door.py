"""The door of the console, as a person meets it: name and password, then a code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.test import Client

from appliance.audit import selectors as log
from tests.appliance import cast
from tests.console.browse import AGENT

if TYPE_CHECKING:
    # What the test client answers with; the name exists for the type checker only.
    from django.test.client import _MonkeyPatchedWSGIResponse as Page

WRONG_CODE = "000000"


@dataclass
class SignedIn:
    """Somebody with an open session."""

    member: cast.Member
    browser: Client

    def get(self, path: str) -> Page:
        return self.browser.get(path)

    def post(self, path: str, **fields: object) -> Page:
        return self.browser.post(path, fields)

    def approve(self, change_id: int) -> Page:
        """Sign a change with a code that was not used yet."""
        cast.forget_used_codes()
        return self.post(f"/changes/{change_id}/approve", password=self.member.password, code=self.member.code())


def enter(member: cast.Member, browser: Client) -> SignedIn:
    """Both steps; fails the test when the door does not open."""
    cast.forget_used_codes()
    first = browser.post("/sign-in", {"username": member.username, "password": member.password})
    assert first.status_code == 302, "the password was refused"
    second = browser.post("/sign-in/code", {"code": member.code()})
    assert second.status_code == 302, "the code was refused"
    return SignedIn(member, browser)


def in_chromium(member: cast.Member) -> SignedIn:
    """Somebody whose session goes on in the browser that `browse` drives."""
    return enter(member, Client(headers={"user-agent": AGENT}))


def cookies(person: SignedIn | None) -> dict[str, str]:
    """The session as a browser carries it; a stranger has none."""
    name = settings.SESSION_COOKIE_NAME
    return {name: person.browser.cookies[name].value} if person else {}


def text(response: Page) -> str:
    """A page as text."""
    return response.content.decode()


def records(**narrowed: str) -> tuple[log.Row, ...]:
    """Audit records that match, newest first."""
    return log.search(log.Query(**narrowed), limit=100)  # type: ignore[arg-type]  # every field of a Query is text here
