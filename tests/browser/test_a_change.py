"""Flow A and Flow C in a real browser: a bundle comes in from its medium, two people sign, and it serves."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from provisioning.evaluation import request
from tests.box import Box
from tests.browser.conftest import SCREENSHOTS, Visit
from tests.simulators.evaluation_publisher import BUNDLE
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)

SERVES_MS = 320_000  # longer than the site lets an engine take to start
IMPORTED_MS = 120_000


def test_alice_imports_and_proposes_bob_and_carol_sign_and_it_serves(box: Box, visit: Visit) -> None:
    version = 1 + box.sql("SELECT max(version) FROM releases_release")[0][0]
    medium = box.publisher.medium(version)
    alice = visit("alice")

    page = alice.open("/media")
    row = page.get_by_role("row").filter(has_text=str(medium))
    row.get_by_role("button", name="Import and check").click()
    page.get_by_text("Every check passed.").wait_for(timeout=IMPORTED_MS)
    page.get_by_role("link", name="Open the release").click()
    page.get_by_label("Reason").fill("The next version, from the publisher's new medium.")
    page.get_by_role("button", name="Propose activation").click()
    page.get_by_text("0 of 2 approvals.").wait_for()
    change_id = int(re.sub(r"\D", "", page.url.rpartition("/")[2]))
    expect(page.get_by_text("You proposed this change, so two other people must approve it.")).to_be_visible()
    expect(page.get_by_label("Your password")).to_have_count(0)

    bob = visit("bob")
    bob.open("/")
    bob.page.get_by_role("link", name=re.compile(f"Approve or reject change {change_id}")).click()
    expect(bob.page.get_by_role("row", name=re.compile("^Version"))).to_contain_text(str(version))
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    bob.page.screenshot(path=SCREENSHOTS / "change-to-approve-1280-light.png", full_page=True)
    bob.approve(change_id)
    expect(bob.page.get_by_text("1 of 2 approvals.")).to_be_visible()
    expect(bob.page.get_by_label("Your password")).to_have_count(0)

    carol = visit("carol")
    carol.approve(change_id)
    # The page follows the engine by itself from here on.
    expect(carol.page.get_by_text(re.compile("It has served since"))).to_be_visible(timeout=SERVES_MS)
    carol.open("/")
    expect(carol.page.get_by_text(f"{BUNDLE} {version} is serving", exact=False).first).to_be_visible()

    def answered() -> bool:
        return bool(request.ask(box.site.api, box.api_key).receipt["change_id"] == change_id)

    until(answered, 30, "answers name the new change")


def test_a_wrong_code_signs_nothing_and_the_page_says_so_with_a_request_id(box: Box, visit: Visit) -> None:
    box.code("bob")  # spend one, so that the right digits are not hit by chance twice
    stranger = visit("")
    page = stranger.open("/sign-in")
    page.get_by_label("Name", exact=True).fill("bob")
    page.get_by_label("Password").fill("not the password of bob")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("is not right, or the account is locked")
    stranger.open("/changes")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    # Chromium itself notes the 403 of the refused form.
    assert all("403" in problem for problem in stranger.problems)
    stranger.problems.clear()


def test_the_pages_work_without_scripts(box: Box, visit: Visit) -> None:
    alice = visit("alice", java_script_enabled=False)
    for path, heading in (("/", "Overview"), ("/releases", "Releases"), ("/changes", "Changes"), ("/queue", "Queue")):
        expect(alice.open(path).get_by_role("heading", name=heading, exact=True)).to_be_visible()
    expect(alice.page.get_by_role("button", name="Copy").first).to_have_count(0)


def test_a_client_is_registered_and_its_key_is_shown_once(box: Box, visit: Visit) -> None:
    erin = visit("erin")
    name = "ward-{}".format(*box.sql("SELECT count(*) FROM clients_client")[0])
    page = erin.open("/clients/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Title").fill("Ward documentation")
    page.get_by_label("Owner").fill("Clinical informatics")
    page.get_by_label("Progress note").check()
    page.get_by_label("TREAT: treatment", exact=True).check()
    page.get_by_role("button", name="Register").click()
    erin.step_up_if_asked()
    page.get_by_role("button", name="Issue a key").click()
    shown = page.locator("code.secret").inner_text()
    assert shown.startswith("iwk_")
    page.get_by_role("link", name="I have copied it").click()
    assert shown not in page.content()
    expect(page.get_by_text("Works")).to_be_visible()


def test_the_log_is_verified_from_its_page(box: Box, visit: Visit) -> None:
    page = visit("dave").open("/audit")
    page.get_by_role("button", name="Verify the whole log now").click()
    expect(page.get_by_text("The log is whole.")).to_be_visible()
