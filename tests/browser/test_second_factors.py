"""Nora enrols a security key, signs in with it, replaces her generator and makes recovery codes, in a real Chromium.

The key is Chromium's own virtual authenticator: the browser's whole WebAuthn, with nothing plugged in.
"""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, expect

from provisioning.evaluation.people import Person
from tests.box import Box
from tests.browser.conftest import Visit, Visitor, look

pytestmark = pytest.mark.timeout(600)

NORA = Person(
    username="nora",
    display_name="Nora Holm",
    password="nora-has-a-long-password",
    roles=["viewer"],
    totp_seed="JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
)


def first_step(visitor: Visitor) -> Page:
    page = visitor.open("/sign-in")
    page.get_by_label("Name", exact=True).fill(NORA.username)
    page.get_by_label("Password").fill(NORA.password)
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("heading", name="Second factor").wait_for()
    return page


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out", exact=True).first.click()
    page.get_by_role("heading", name="Sign in").wait_for()


def with_virtual_key(visitor: Visitor) -> None:
    """Plug in a key that asks for a PIN and gets it."""
    chrome = visitor.context.new_cdp_session(visitor.page)
    chrome.send("WebAuthn.enable")
    chrome.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "usb",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )


def test_nora_enrols_a_key_and_signs_in_with_it(box: Box, visit: Visit) -> None:
    box.manage("create_person", stdin=json.dumps(vars(NORA)))
    # Keys are bound to a name: under 127.0.0.1 there are none.
    nora = visit("", home=f"http://localhost:{box.layout.console_port}")
    with_virtual_key(nora)
    page = first_step(nora)
    look(page, "sign-in-code")
    page.get_by_label("Code").fill(NORA.code())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()

    nora.open("/profile/keys/new")
    look(page, "key-new")
    page.get_by_label("What you call it").fill("Blue key")
    page.get_by_role("button", name="Enrol the key").click()
    page.get_by_text("Blue key is enrolled.").wait_for()
    look(page, "profile-with-key")
    sign_out(page)

    first_step(nora)
    look(page, "sign-in-key")
    page.get_by_role("button", name="Use security key").click()
    page.get_by_role("heading", name="Overview").wait_for()
    nora.open("/profile")
    expect(page.get_by_text("Signed in with your password and a security key.")).to_be_visible()
    replaces_her_generator(nora)
    recovery = makes_recovery_codes(nora)
    sign_out(page)

    first_step(nora)
    page.get_by_role("link", name="My codes are always refused").click()
    look(page, "sign-in-clock")
    page.get_by_role("link", name="Back to one code").click()
    page.get_by_label("Code").fill(recovery)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("That recovery code is used up; 9 are left.").wait_for()
    nora.open("/step-up?next=/profile&again=1")
    look(page, "step-up")
    page.get_by_role("button", name="Use security key").click()
    page.get_by_text("Nothing was changed yet: repeat the step now.").wait_for()

    erin = visit("erin")
    erin.open("/staff/nora/factors")
    expect(erin.page.get_by_text("Blue key")).to_be_visible()
    look(erin.page, "person-factors")
    page.get_by_role("button", name="Sign out everywhere").click()
    expect(page.get_by_text("You are signed out here and everywhere else.")).to_be_visible()


def replaces_her_generator(nora: Visitor) -> None:
    page = nora.open("/profile/generator")
    page.get_by_role("button", name="Make the secret").click()
    secret = page.locator("code.secret").inner_text().replace(" ", "")
    look(page, "generator-new")
    new = Person(**{**vars(NORA), "totp_seed": secret})
    page.get_by_label("The code it shows now").fill(new.code())
    page.get_by_role("button", name="It works").click()
    page.get_by_text("Your new generator counts from now on.").wait_for()


def makes_recovery_codes(nora: Visitor) -> str:
    page = nora.open("/profile/recovery")
    page.get_by_role("button", name="Make ten codes").click()
    expect(page.locator("ol.codes li")).to_have_count(10)
    code = page.locator("ol.codes li").first.inner_text()
    look(page, "recovery-codes")
    page.get_by_role("link", name="I have them").click()
    return code


def test_a_key_that_does_not_answer_is_said_and_a_code_is_still_there(box: Box, visit: Visit) -> None:
    nora = visit("", home=f"http://localhost:{box.layout.console_port}")
    page = first_step(nora)
    # No key is plugged in for this browser: the browser gives up at once instead of after a minute.
    page.evaluate(
        "() => { navigator.credentials.get = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    page.get_by_role("button", name="Use security key").click()
    expect(page.get_by_role("alert")).to_contain_text("No key answered, or it was cancelled.")
    look(page, "sign-in-key-refused")
    expect(page.get_by_label("Code")).to_be_visible()
