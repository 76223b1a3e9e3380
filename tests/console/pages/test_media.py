"""Media: what lies there, starting an import, its progress and its end."""

from __future__ import annotations

import pytest
from django.conf import settings

from inference.releases import selectors as releases
from inference.releases import services, tasks
from tests.console.conftest import Enter
from tests.console.door import records, text
from tests.inference.releases.stage import BUNDLE, Stage

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is this test: it runs the import when the page has been looked at."""
    monkeypatch.setattr(tasks, "ring", lambda _import_id: None)


def test_an_empty_medium_says_where_it_is_looked_for(stage: Stage, door: Enter) -> None:
    page = text(door("alice").get("/media"))
    assert "No medium with a bundle is connected" in page
    assert str(settings.SITE.media_roots[0]) in page


def test_a_bundle_is_imported_from_the_page_and_becomes_a_release(stage: Stage, door: Enter) -> None:
    medium, alice = stage.medium(1), door("alice")
    assert BUNDLE in text(alice.get("/media"))
    response = alice.post("/media/import", medium=str(medium), bundle=BUNDLE)
    where = response["Location"]
    assert "Stop this import" in text(alice.get(where))
    assert "hx-get" in text(alice.get(where + "/live"))
    services.run_import(int(where.rpartition("/")[2]))
    page = text(alice.get(where + "/live"))
    assert "Every check passed" in page
    assert "hx-get" not in page
    assert releases.releases()[0].digest in page
    assert "Already received" in text(alice.get("/media"))


def test_a_spoiled_bundle_says_which_check_refused_it(stage: Stage, door: Enter) -> None:
    medium, alice = stage.medium(1), door("alice")
    victim = next(medium.rglob("*config.json"))
    victim.write_bytes(victim.read_bytes() + b" ")
    where = alice.post("/media/import", medium=str(medium), bundle=BUNDLE)["Location"]
    services.run_import(int(where.rpartition("/")[2]))
    ended = releases.imports()[0]
    page = text(alice.get(where))
    assert ended.code
    assert ended.code in page
    assert "Nothing was installed" in page
    assert releases.releases() == ()


def test_a_waiting_import_is_stopped_by_the_button(stage: Stage, door: Enter) -> None:
    medium, alice = stage.medium(1), door("alice")
    where = alice.post("/media/import", medium=str(medium), bundle=BUNDLE)["Location"]
    alice.post(where + "/cancel")
    assert releases.imports()[0].state == "cancelled"
    assert "Stop this import" not in text(alice.get(where))


@pytest.mark.parametrize(
    ("medium", "bundle", "code"),
    [("/etc", "passwd", "media_unknown"), ("/", BUNDLE, "media_unknown"), ("", "../../etc", "bad_name")],
)
def test_only_a_bundle_on_a_medium_of_the_site_may_be_named(
    stage: Stage, door: Enter, medium: str, bundle: str, code: str
) -> None:
    alice = door("alice")
    response = alice.browser.post(
        "/media/import", {"medium": medium or str(stage.medium(1)), "bundle": bundle}, follow=True
    )
    assert code in text(response)
    assert releases.imports() == ()
    assert records(actor="alice", kind="refusal")[0].outcome == code


def test_a_viewer_of_media_finds_no_button(stage: Stage, door: Enter) -> None:
    stage.medium(1)
    assert "Import and check" not in text(door("bob").get("/media"))
    assert "Import and check" in text(door("alice").get("/media"))


def test_two_presses_start_one_import(stage: Stage, door: Enter) -> None:
    medium, alice = stage.medium(1), door("alice")
    for _ in range(2):
        alice.post("/media/import", medium=str(medium), bundle=BUNDLE)
    assert len(releases.imports()) == 1
