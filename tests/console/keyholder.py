"""People with a security key, at the console as its pages and their script see them."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from django.test import Client

from tests.appliance import cast
from tests.console.door import SignedIn, enter, text
from tests.simulators.security_key import SecurityKey

if TYPE_CHECKING:
    # What the test client answers with; the name exists for the type checker only.
    from django.test.client import _MonkeyPatchedWSGIResponse as Page

AT = "localhost:18800"


def browser_at(host: str = AT) -> Client:
    """A browser that opened the console under this name; keys work under `localhost`."""
    return Client(headers={"Host": host})


def question(page: Page) -> str:
    """What the page asks a key, as its script reads it."""
    (found,) = re.findall(r'data-options="([^"]*)"', text(page)) or [""]
    return html.unescape(found)


def with_key(username: str = "bob", name: str = "desk") -> tuple[SignedIn, SecurityKey]:
    """Signed in, and a key enrolled on the page itself."""
    person, key = enter(cast.member(username), browser_at()), SecurityKey()
    answer = key.create(question(person.get("/profile/keys/new")))
    assert person.post("/profile/keys/new", name=name, answer=answer)["Location"] == "/profile"
    return person, key


def first_step(member: cast.Member, host: str = AT) -> Client:
    """A browser in which the password was right."""
    browser = browser_at(host)
    assert browser.post("/sign-in", {"username": member.username, "password": member.password}).status_code == 302
    return browser
