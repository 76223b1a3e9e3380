"""No page without both factors and its permission: generated for every address, so that a new page cannot be forgotten."""

from __future__ import annotations

import pytest
from django.test import Client

from appliance.accounts import services as accounts
from appliance.accounts.permissions import GRANTS, Role
from tests.appliance import cast
from tests.console.conftest import Enter
from tests.console.door import enter, records, text
from tests.console.sitemap import addresses

pytestmark = pytest.mark.django_db

# The declared matrix. A page that changes hands is changed here as well, on purpose.
PERMISSIONS: dict[str, str | None] = {
    "sign-in": None,
    "sign-in-code": None,
    "sign-in-clock": None,
    "enrol": None,
    "sign-in-provider": None,
    "sign-in-provider-back": None,
    "sign-out": None,
    "status": None,
    "first-boot": None,
    "first-boot-people": None,
    "overview": "overview:view",
    "overview-live": "overview:view",
    "playground": "playground:use",
    "playground-ask": "playground:use",
    "queue": "queue:view",
    "queue-live": "queue:view",
    "queue-pause": "queue:manage",
    "queue-resume": "queue:manage",
    "jobs": "queue:view",
    "job": "queue:view",
    "job-stop": "queue:manage",
    "batches": "queue:view",
    "batch": "queue:view",
    "batch-stop": "queue:manage",
    "media": "release:view",
    "import-start": "release:import",
    "import": "release:view",
    "import-live": "release:view",
    "import-cancel": "release:import",
    "releases": "release:view",
    "release": "release:view",
    "release-propose": "change:propose",
    "release-roll-back": "change:propose",
    "changes": "change:view",
    "change": "change:view",
    "change-live": "change:view",
    "change-approve": "change:approve",
    "change-reject": "change:approve",
    "change-withdraw": "change:propose",
    "tasks": "task:view",
    "task": "task:view",
    "clients": "client:view",
    "client-new": "client:manage",
    "client": "client:view",
    "client-grants": "client:manage",
    "client-issue": "client:manage",
    "client-suspend": "client:manage",
    "client-revoke": "client:manage",
    "client-rotate": "client:manage",
    "staff": "staff:view",
    "person": "staff:manage",
    "person-deactivate": "staff:manage",
    "person-factors": "staff:view",
    "person-reset-ask": "staff:manage",
    "person-reset-agree": "staff:agree",
    "person-reset-withdraw": "staff:manage",
    "person-sign-out": "staff:manage",
    "person-patients": "phi:grant",
    "person-enrolment": "staff:manage",
    "reviews": "access:view",
    "review-begin": "access:review",
    "review": "access:view",
    "review-decide": "access:review",
    "review-sign": "access:review",
    "review-csv": "access:view",
    "review-json": "access:view",
    "emergency": "emergency:view",
    "emergency-ask": "emergency:open",
    "emergency-opening": "emergency:view",
    "emergency-agree": "emergency:open",
    "emergency-close": "emergency:open",
    "emergency-review": "access:review",
    "profile": "own",
    "profile-theme": "own",
    "profile-generator": "own",
    "profile-generator-remove": "own",
    "profile-key-new": "own",
    "profile-key-remove": "own",
    "profile-recovery": "own",
    "profile-reset-stop": "own",
    "profile-sessions-end-all": "own",
    "profile-session-end": "own",
    "step-up": "own",
    "audit": "audit:view",
    "audit-verify": "audit:verify",
    "audit-record": "audit:view",
    "gpus": "gpu:view",
    "gpus-live": "gpu:view",
    "gpu-requalify": "gpu:requalify",
    "gpu-event-acknowledge": "alert:acknowledge",
    "gpu-policy": "change:propose",
    "alerts": "alert:view",
    "alert-acknowledge": "alert:acknowledge",
    "alert-silence": "alert:silence",
    "alerts-live": "alert:view",
    "alert-channel-test": "alert:test",
}
METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
ENDS_THE_SESSION = ("profile-sessions-end-all", "post")
CLOSED = [address for address in addresses() if address.permission is not None]


def test_every_page_is_in_the_declared_matrix_with_its_permission() -> None:
    assert {address.name: address.permission for address in addresses()} == PERMISSIONS


def test_every_public_page_says_why_it_is_public() -> None:
    assert all(address.view.public for address in addresses() if address.permission is None)  # type: ignore[attr-defined]  # set by access


def test_a_stranger_is_sent_to_sign_in_from_every_page_whatever_the_method() -> None:
    browser = Client()
    for address in CLOSED:
        for method in METHODS:
            response = getattr(browser, method)(address.path)
            assert response.status_code == 302, f"{method} {address.path}"
            assert response["Location"].startswith("/sign-in"), f"{method} {address.path}"


def test_a_password_alone_opens_nothing() -> None:
    bob = cast.member("bob")
    browser = Client()
    browser.post("/sign-in", {"username": "bob", "password": bob.password})
    for address in CLOSED:
        response = browser.get(address.path)
        assert response.status_code == 302, address.path
        assert response["Location"].partition("?")[0] == "/sign-in", address.path
    # The same session, the second factor shown: now every page opens or refuses by role.
    browser.post("/sign-in/code", {"code": bob.code()})
    assert all(browser.get(address.path).status_code != 302 for address in CLOSED)


@pytest.mark.parametrize("role", sorted(Role), ids=str)
def test_each_role_opens_exactly_what_it_grants_by_every_method(role: Role) -> None:
    password = "somebody-has-a-long-password"
    accounts.create_person(
        actor="test", username="somebody", display_name="Some Body", password=password, roles=[role.value]
    )
    accounts.enrol_totp(actor="test", username="somebody", seed=cast.SEED, confirmed=True)
    person = enter(cast.Member("somebody", password), Client(raise_request_exception=True))
    granted = {str(permission) for permission in GRANTS[role]} | {"own"}
    for address in CLOSED:
        for method in METHODS:
            response = getattr(person.browser, method)(address.path)
            refused = response.status_code == 403
            assert refused == (address.permission not in granted), f"{role} {method} {address.path}"
            if (address.name, method) == ENDS_THE_SESSION:
                assert response["Location"] == "/sign-in"
                person = enter(cast.Member("somebody", password), Client(raise_request_exception=True))
                continue
            assert not response.get("Location", "").startswith("/sign-in"), f"{role} {method} {address.path}"


def test_a_person_without_a_role_opens_only_their_own_pages(door: Enter) -> None:
    accounts.create_person(
        actor="test", username="newcomer", display_name="", password="newcomer-has-a-long-password", roles=[]
    )
    accounts.enrol_totp(actor="test", username="newcomer", seed=cast.SEED, confirmed=True)
    newcomer = enter(cast.Member("newcomer", "newcomer-has-a-long-password"), Client())
    opened = [address.name for address in CLOSED if newcomer.get(address.path).status_code == 200]
    assert opened == ["profile", "profile-generator", "profile-key-new", "profile-recovery", "step-up"]


def test_a_refused_page_leaves_a_record_with_its_request_id(door: Enter) -> None:
    dave = door("dave")
    response = dave.post("/changes/1/approve", password="x", code="123456")
    assert response.status_code == 403
    refusal = records(actor="dave", kind="refusal")[0]
    assert (refusal.outcome, refusal.target) == ("permission_missing", "POST /changes/1/approve")
    assert response["X-Request-Id"] in refusal.detail
    assert response["X-Request-Id"] in text(response)


def test_the_menu_lists_exactly_the_pages_this_person_may_open(door: Enter) -> None:
    for username in ("alice", "bob", "dave", "erin"):
        person = door(username)
        page = text(person.get("/profile"))
        nav = page[page.index('id="nav"') : page.index("</nav>")]
        for path in (
            "/queue",
            "/media",
            "/releases",
            "/changes",
            "/clients",
            "/staff",
            "/audit",
            "/gpus",
            "/alerts",
            "/access-reviews",
        ):
            assert (f'href="{path}"' in nav) == (person.get(path).status_code == 200), f"{username} {path}"


def test_a_live_part_without_a_session_leaves_the_page_instead_of_drawing_a_form_into_it() -> None:
    response = Client().get("/queue/live", headers={"HX-Request": "true"})
    assert (response.status_code, response["HX-Redirect"]) == (401, "/sign-in")


def test_a_role_taken_away_ends_the_session_and_the_right_with_it(door: Enter) -> None:
    bob = door("bob")
    assert bob.get("/changes").status_code == 200
    accounts.set_roles(actor="erin", username="bob", roles=["viewer"])
    assert bob.get("/changes")["Location"].startswith("/sign-in")
    assert "Your roles were changed" in text(bob.get("/sign-in"))


def test_a_deactivated_person_is_out_at_the_next_request(door: Enter) -> None:
    bob = door("bob")
    accounts.deactivate(actor="erin", username="bob")
    assert bob.get("/").status_code == 302
