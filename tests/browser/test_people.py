"""People in a real browser: a box with nobody gets its first two, and a reviewer looks at everybody and signs.

On a console of its own over an empty database: the box that the other journeys share has people from the start.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from playwright.sync_api import Browser, Page, expect
from pytest_django.fixtures import Settings

from appliance.accounts import services as accounts
from appliance.accounts.models import Person
from inference.clients import services as clients
from tests.appliance import cast
from tests.browser.conftest import look
from tests.simulators.provider import SECRET, IdentityProvider

if TYPE_CHECKING:
    from pytest_django.live_server_helper import LiveServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

PASSWORDS = ("ines-has-a-long-password", "sven-has-a-long-password")


@pytest.fixture(scope="session", autouse=True)
def _beside_a_loop() -> Iterator[None]:
    """Playwright keeps an event loop in this thread; the database is still used by one thread at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield


@pytest.fixture
def page(chromium: Browser, live_server: LiveServer) -> Iterator[Page]:
    """A stranger's browser; whatever a page complains about fails the test."""
    context = chromium.new_context(base_url=live_server.url)
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda said: problems.append(said.text) if said.type in {"error", "warning"} else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith(live_server.url) else problems.append(asked.url))
    yield opened
    context.close()
    # Chromium itself notes a refused form and a page that is gone; anything else is ours.
    assert [problem for problem in problems if "403" not in problem and "404" not in problem] == []


def code(seed: str, *, steps: int = 0) -> str:
    return cast.Member("", "", base64.b32decode(seed.replace(" ", ""))).code(steps=steps)


def sign_in(page: Page, member: cast.Member) -> None:
    cast.forget_used_codes()
    page.goto("/sign-in")
    page.get_by_label("Name", exact=True).fill(member.username)
    page.get_by_label("Password").fill(member.password)
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Code").fill(member.code())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()


def test_a_box_with_nobody_gets_its_first_two_people_in_one_sitting(page: Page) -> None:
    out = StringIO()
    call_command("first_boot", stdout=out, stderr=StringIO())
    page.goto("/sign-in")
    page.get_by_role("link", name="Make its first two people").click()
    look(page, "first-boot")
    page.get_by_label("Set-up secret").fill(out.getvalue().strip())
    page.get_by_role("button", name="Continue").click()
    halves = [page.get_by_role("group", name=name) for name in ("The first person", "The second person")]
    for half, name, full, password in zip(
        halves, ("ines", "sven"), ("Ines Adler", "Sven Okoye"), PASSWORDS, strict=True
    ):
        half.get_by_label("Name for signing in").fill(name)
        half.get_by_label("Full name").fill(full)
        half.get_by_label("Password", exact=True).fill(password)
        half.get_by_label("Password again").fill(password)
        half.get_by_label("The code the generator shows now").fill("000000")
    look(page, "first-boot-people")
    page.get_by_role("button", name="Make both people").click()
    expect(page.get_by_role("alert")).to_contain_text("Nobody was made.")
    assert not Person.objects.exists()
    look(page, "first-boot-refused")
    seeds = [half.locator("code.secret").inner_text() for half in halves]
    for half, password, seed in zip(halves, PASSWORDS, seeds, strict=True):
        half.get_by_label("Password", exact=True).fill(password)
        half.get_by_label("Password again").fill(password)
        half.get_by_label("The code the generator shows now").fill(code(seed))
    page.get_by_role("button", name="Make both people").click()
    expect(page.get_by_role("heading", name="This machine has its first two people")).to_be_visible()
    look(page, "first-boot-done")
    sign_in(page, cast.Member("ines", PASSWORDS[0], base64.b32decode(seeds[0].replace(" ", ""))))
    assert page.goto("/first-boot").status == 404  # type: ignore[union-attr]  # an answer there always is
    page.goto("/staff")  # the 404 is noted by Chromium; the page it leaves must be well
    expect(page.get_by_role("cell", name="Approver, Security officer")).to_be_visible()


def test_the_identity_providers_word_and_our_own_code_sign_hana_in(
    chromium: Browser, live_server: LiveServer, tmp_path: Path, settings: Settings
) -> None:
    """The provider is another site to the browser: what it sends back comes without our session, as on a hospital's network."""
    console = live_server.url.replace("127.0.0.1", "localhost")
    secret = settings.SITE.secrets_dir / "oidc-client"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    with IdentityProvider(tmp_path, redirect_uri=f"{console}/sign-in/provider/callback") as idp:
        settings.SITE = replace(settings.SITE, oidc=idp.site)
        context = chromium.new_context(base_url=console, ignore_https_errors=True)
        page = context.new_page()
        page.goto("/sign-in")
        look(page, "sign-in-with-provider")
        page.get_by_role("link", name="Sign in with the hospital's identity provider").click()
        page.get_by_role("heading", name="Hana Sato").wait_for()
        look(page, "sign-in-provider-back")
        accounts.enrol_totp(actor="test", username="hana", seed=cast.SEED, confirmed=True)
        page.get_by_role("link", name="Go on to the second factor").click()
        page.get_by_label("Code").fill(cast.Member("hana", "").code())
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Overview").wait_for()
        context.close()
    secret.unlink()


def test_a_reviewer_looks_at_everybody_decides_signs_and_keeps_the_record(page: Page) -> None:
    members = {name: cast.member(name) for name in ("alice", "bob", "carol", "erin", "grace")}
    accounts.create_person(
        actor="test", username="lena", display_name="Lena Brandt", password="lena-has-a-long-password",
        roles=["clinician_reviewer"],
    )  # fmt: skip
    accounts.set_phi_right(actor="test", username="lena", allowed=True)
    clients.create_client(
        actor="erin", name="ward-7", title="Ward 7", owner="Erin", tasks=["progress_note"], purposes=["TREAT"],
        lane="batch", phi=False,
    )  # fmt: skip
    sign_in(page, members["grace"])
    page.goto("/staff")
    look(page, "staff-people")
    page.goto("/access-reviews")
    look(page, "access-reviews-empty")
    page.get_by_role("button", name="Open a review").click()
    page.get_by_role("heading", name="Access review").wait_for()
    look(page, "access-review-open")
    for name in ("alice", "carol", "erin", "lena", "bob"):
        page.get_by_label(f"Reason for {name}").fill("Left the house." if name == "bob" else "Same work as last time.")
        page.get_by_role("button", name=f"{'Revoke' if name == 'bob' else 'Keep'} {name}", exact=True).click()
        page.get_by_text(f"Decide again about {name}").wait_for()
    look(page, "access-review-decided")
    page.get_by_role("button", name="and end 1 access").click()
    expect(page.get_by_text("The access of bob has ended.")).to_be_visible()
    look(page, "access-review-signed")
    assert not Person.objects.get(username="bob").is_active
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Table (CSV)").click()
    assert waiting.value.suggested_filename.endswith(".csv")
    page.goto("/access-reviews")
    look(page, "access-reviews")


def test_two_people_open_the_sealed_account_and_a_third_signs_for_what_it_did(page: Page) -> None:
    members = {name: cast.member(name) for name in ("bob", "carol", "grace")}
    sign_in(page, members["bob"])
    page.goto("/emergency")
    look(page, "emergency")
    page.get_by_label("Reason").fill("Both administrators are out and a certificate has run out.")
    prove(page, members["bob"])
    page.get_by_role("button", name="Ask for the break-glass account").click()
    page.get_by_text("1 more must agree with both factors.").wait_for()
    path = page.url
    become(page, members["carol"])
    page.goto(path)
    look(page, "emergency-asked")
    prove(page, members["carol"])
    page.get_by_role("button", name="Open the break-glass account").click()
    page.get_by_role("heading", name="The break-glass account is open").wait_for()
    look(page, "emergency-opened")
    password, seed = page.locator("code.secret").all_inner_texts()
    become(page, cast.Member("break-glass", password, base64.b32decode(seed.replace(" ", ""))))
    page.goto("/staff")
    become(page, members["carol"])
    page.goto(path)
    page.get_by_role("button", name="Seal the account now").click()
    page.get_by_text("The account is sealed again.").wait_for()
    become(page, members["grace"])
    page.goto(path)
    expect(page.get_by_role("link", name="person.signed_in")).to_be_visible()
    look(page, "emergency-closed")
    page.get_by_label("What you found").fill("Signed in, looked at the staff, changed nothing.")
    page.get_by_role("button", name="Sign the review of opening").click()
    page.get_by_text("The account can be asked for again.").wait_for()


def prove(page: Page, member: cast.Member) -> None:
    """Both factors again, in the form of the page."""
    cast.forget_used_codes()
    page.get_by_label("Your password").fill(member.password)
    page.get_by_label("One-time code").fill(member.code())


def become(page: Page, member: cast.Member) -> None:
    """Sign out, and in as somebody else."""
    page.get_by_role("button", name="Sign out").first.click()
    sign_in(page, member)
