"""The access review's pages: what a reviewer sees of each person, decides, signs, and takes away as a file."""

from __future__ import annotations

import csv
import io
import json

import pytest

from appliance.accounts.models import Person
from appliance.reviews import selectors as reviews
from appliance.reviews.models import Decision
from inference.clients import services as clients
from provisioning import canonical
from tests.console.conftest import Enter
from tests.console.door import SignedIn, records, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def grace(door: Enter) -> SignedIn:
    """A security officer, with bob and erin to look at; erin answers for an app."""
    clients.create_client(
        actor="erin", name="ward-7", title="Ward 7", owner="Erin", tasks=["progress_note"], purposes=["TREAT"],
        lane="batch", phi=False,
    )  # fmt: skip
    door("bob")
    door("erin")
    return door("grace")


def opened(grace: SignedIn) -> str:
    return grace.post("/access-reviews/begin")["Location"]


def test_a_review_is_opened_decided_signed_and_bob_is_out(grace: SignedIn, door: Enter) -> None:
    bob = door("bob")
    assert "No review yet" in text(grace.get("/access-reviews"))
    path = opened(grace)
    page = text(grace.get(path))
    assert "2 people are still to be decided on." in page
    assert "ward-7" in page
    assert "Sign review" not in page
    grace.post(f"{path}/people/erin", verdict="keep", reason="Runs the machine.")
    grace.post(f"{path}/people/bob", verdict="revoke", reason="Left the house.")
    page = text(grace.get(path))
    assert "Signing ends the access of bob at once." in page
    assert bob.get("/profile").status_code == 200
    assert "The access of bob has ended." in text(grace.browser.post(f"{path}/sign", follow=True))
    assert bob.get("/profile")["Location"].startswith("/sign-in")
    page = text(grace.get(path))
    assert "Ended with it: the access of bob. The access of grace is left to another reviewer." in page
    assert reviews.reviews()[0].digest in page
    assert "Decide" not in page


def test_a_refusal_is_a_sentence_with_its_code_and_nothing_is_signed(grace: SignedIn) -> None:
    path = opened(grace)
    assert "review_undecided" in text(grace.browser.post(f"{path}/sign", follow=True))
    answer = grace.browser.post(f"{path}/people/grace", {"verdict": "keep", "reason": "x"}, follow=True)
    assert "review_own_access" in text(answer)
    assert "Say why" in text(
        grace.browser.post(f"{path}/people/bob", {"verdict": "revoke", "reason": " "}, follow=True)
    )
    assert "review_already_open" in text(grace.browser.post("/access-reviews/begin", follow=True))
    assert reviews.reviews()[0].decisions == ()


def test_an_administrator_neither_reads_nor_decides_and_an_auditor_reads_alone(grace: SignedIn, door: Enter) -> None:
    path = opened(grace)
    erin, dave = door("erin"), door("dave")
    for page in (path, f"{path}.csv", f"{path}.json", "/access-reviews"):
        assert erin.get(page).status_code == 403
        assert dave.get(page).status_code == 200
    for person in (erin, dave):
        assert person.post(f"{path}/people/bob", verdict="revoke", reason="x").status_code == 403
        assert person.post(f"{path}/sign").status_code == 403
    assert "You may read this review." in text(dave.get(path))
    assert Person.objects.get(username="bob").is_active


def test_whoever_changed_since_is_shown_as_such(grace: SignedIn, door: Enter) -> None:
    path = opened(grace)
    grace.post(f"{path}/people/bob", verdict="keep", reason="Approves on Tuesdays.")
    assert "Changed since" not in text(grace.get(path))
    door("erin").post("/staff/bob", roles=["approver", "viewer"])
    page = text(grace.get(path))
    assert "Changed since" in page
    assert "still to be decided on" in page


def test_the_files_hold_the_review_and_a_reader_can_check_its_digest(grace: SignedIn) -> None:
    path = opened(grace)
    for name in ("bob", "erin"):
        grace.post(f"{path}/people/{name}", verdict="keep", reason="Same ward.")
    grace.post(f"{path}/sign")
    document = json.loads(grace.get(f"{path}.json").content)
    digest = document.pop("digest")
    document.pop("state")
    assert canonical.digest(document) == digest
    table = list(csv.DictReader(io.StringIO(text(grace.get(f"{path}.csv")))))
    assert [(row["username"], row["verdict"], row["decided_by"]) for row in table] == [
        ("bob", "keep", "grace"),
        ("erin", "keep", "grace"),
    ]
    assert [row.detail for row in records(action="review.exported")] == ['{"form": "csv"}', '{"form": "json"}']


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_a_spreadsheet_reads_no_formula_out_of_the_table(grace: SignedIn, start: str) -> None:
    Person.objects.filter(username="bob").update(display_name=f"{start}cmd|' /C calc'!A0")
    path = opened(grace)
    row = next(row for row in csv.DictReader(io.StringIO(text(grace.get(f"{path}.csv")))) if row["username"] == "bob")
    assert row["display_name"] == f"'{start}cmd|' /C calc'!A0"


def test_a_review_that_is_due_says_so_on_its_page(grace: SignedIn) -> None:
    assert "Not due." in text(grace.get("/access-reviews"))
    Person.objects.update(created_at="2026-01-01T00:00:00Z")
    assert "Overdue since" in text(grace.get("/access-reviews"))


def test_a_signed_review_that_was_altered_says_so_and_still_opens(grace: SignedIn) -> None:
    path = opened(grace)
    for name in ("bob", "erin"):
        grace.post(f"{path}/people/{name}", verdict="keep", reason="Same ward.")
    grace.post(f"{path}/sign")
    assert "not as it was signed" not in text(grace.get(path))
    Decision.objects.filter(username="bob").update(facts={})
    assert "not as it was signed" in text(grace.get(path))
    assert "Altered since" in text(grace.get("/access-reviews"))
