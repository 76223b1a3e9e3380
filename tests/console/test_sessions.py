"""Sessions: bound to their row, their cookie and their browser; listed; ended by their owner or by whoever looks after staff."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.contrib.sessions.backends.base import UpdateError
from django.db import connection
from django.test import Client
from django.utils import timezone

from appliance.accounts import selectors, services
from appliance.accounts.models import Person, StaffSession
from appliance.accounts.sessions import SessionStore, row_key
from tests.appliance import cast
from tests.console.conftest import Enter
from tests.console.door import SignedIn, enter, records, text

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IDLE, ABSOLUTE = timedelta(minutes=15), timedelta(hours=12)


def cookie(person: SignedIn) -> str:
    return str(person.browser.cookies["isoward_session"].value)


def row(person: SignedIn) -> StaffSession:
    return StaffSession.objects.get(session_key=row_key(cookie(person)))


def with_cookie(value: str) -> Client:
    browser = Client()
    browser.cookies["isoward_session"] = value
    return browser


def test_a_dump_of_the_table_holds_no_cookie(door: Enter) -> None:
    bob = door("bob")
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(s)::text FROM accounts_staffsession s")
        dump = "".join(found[0] for found in cursor.fetchall())
    assert cookie(bob) not in dump
    # And what is in the table opens nothing when it is sent as a cookie.
    assert with_cookie(row(bob).session_key).get("/").status_code == 302
    assert with_cookie(row(bob).session_data).get("/").status_code == 302
    assert bob.get("/").status_code == 200


@pytest.mark.parametrize(
    "altered",
    [
        {"person_id": None},
        {"source": "10.0.0.9"},
        {"agent": "Edge on Windows"},
        {"began": timezone.now()},
        {"last_seen": timezone.now()},
        {"expire_date": timezone.now() + timedelta(days=900)},
        {"session_data": "x"},
    ],
    ids=lambda altered: next(iter(altered)),
)
def test_a_row_altered_by_hand_is_nobodys_session_and_leaves_one_record(
    door: Enter, altered: dict[str, object]
) -> None:
    bob = door("bob")
    assert bob.get("/").status_code == 200
    StaffSession.objects.update(**altered)
    for _ in range(2):
        assert bob.get("/").status_code == 302
    (refusal,) = records(action="session.refused")
    assert refusal.outcome == "signature"
    assert refusal.actor == ("unknown" if "person_id" in altered else "bob")


def test_a_row_that_is_given_to_somebody_else_or_copied_to_another_cookie_opens_nothing(door: Enter) -> None:
    bob, erin = door("bob"), door("erin")
    own = SessionStore()
    own["x"] = 1
    own.create()
    erins = row(erin)
    # Who writes the database copies erin's row over the row of a cookie they hold.
    StaffSession.objects.filter(session_key=row_key(str(own.session_key))).update(
        session_data=erins.session_data,
        person=erins.person,
        began=erins.began,
        last_seen=erins.last_seen,
        expire_date=erins.expire_date,
        source=erins.source,
        agent=erins.agent,
    )
    assert with_cookie(str(own.session_key)).get("/").status_code == 302
    StaffSession.objects.filter(session_key=row(bob).session_key).update(person=erins.person)
    assert bob.get("/").status_code == 302
    assert len(records(action="session.refused")) == 2
    assert erin.get("/").status_code == 200


def test_a_row_inserted_by_hand_is_not_even_found_under_the_cookie_that_names_it(door: Enter) -> None:
    erin = door("erin")
    copied = row(erin)
    StaffSession.objects.create(
        session_key="a" * 40,
        session_data=copied.session_data,
        person=copied.person,
        began=copied.began,
        expire_date=copied.expire_date,
    )
    assert with_cookie("a" * 40).get("/").status_code == 302


def test_a_session_goes_on_only_in_the_browser_it_began_in(door: Enter) -> None:
    bob = door("bob")
    elsewhere = with_cookie(cookie(bob))
    response = elsewhere.get("/", headers={"User-Agent": FIREFOX})
    assert response.status_code == 302
    assert records(action="session.refused")[0].outcome == "other_browser"
    # Whoever was robbed finds it ended, and reads why.
    assert bob.get("/").status_code == 302


@pytest.mark.parametrize("value", ["", "x", "x" * 10_000, "bob\x00", "../../etc", "é" * 32, "'; DROP TABLE x; --"])
def test_an_odd_cookie_is_nobody(value: str) -> None:
    cast.member("bob")
    response = Client().get("/", headers={"Cookie": f"isoward_session={value}"})
    assert response.status_code == 302


def test_the_profile_lists_where_one_is_signed_in_and_marks_this_session() -> None:
    bob = cast.member("bob")
    desk = enter(bob, Client())
    enter(bob, Client(headers={"User-Agent": FIREFOX}, REMOTE_ADDR="10.1.2.3"))
    page = text(desk.get("/profile"))
    assert "Firefox on Linux" in page
    assert "10.1.2.3" in page
    assert page.count("this one") == 1
    assert len(selectors.sessions("bob", idle=IDLE, absolute=ABSOLUTE)) == 2
    assert cookie(desk) not in page


def test_sessions_that_are_idle_or_old_are_not_listed(door: Enter) -> None:
    door("bob")
    for column in ("last_seen", "began"):
        before = getattr(StaffSession.objects.get(), column)
        StaffSession.objects.update(**{column: timezone.now() - ABSOLUTE})
        assert selectors.sessions("bob", idle=IDLE, absolute=ABSOLUTE) == ()
        StaffSession.objects.update(**{column: before})
    assert len(selectors.sessions("bob", idle=IDLE, absolute=ABSOLUTE)) == 1


def test_one_session_is_ended_and_the_other_goes_on() -> None:
    bob = cast.member("bob")
    desk, ward = enter(bob, Client()), enter(bob, Client())
    assert desk.post(f"/profile/sessions/{row(ward).session_key}/end")["Location"] == "/profile"
    assert ward.get("/").status_code == 302
    assert desk.get("/").status_code == 200
    assert records(action="person.sessions_ended")[0].actor == "bob"


def test_nobody_ends_a_session_of_somebody_else_by_its_key(door: Enter) -> None:
    bob, carol = door("bob"), door("carol")
    carol.post(f"/profile/sessions/{row(bob).session_key}/end")
    assert bob.get("/").status_code == 200


def test_signing_out_everywhere_ends_all_of_ones_own_and_no_other(door: Enter) -> None:
    bob = cast.member("bob")
    desk, ward, carol = enter(bob, Client()), enter(bob, Client()), door("carol")
    assert desk.post("/profile/sessions/end-all")["Location"] == "/sign-in"
    assert "signed out here and everywhere else" in text(desk.get("/sign-in"))
    assert [desk.get("/").status_code, ward.get("/").status_code] == [302, 302]
    assert carol.get("/").status_code == 200


def test_whoever_manages_staff_ends_somebodys_sessions_and_an_auditor_does_not(door: Enter) -> None:
    bob, erin, dave = door("bob"), door("erin"), door("dave")
    assert dave.post("/staff/bob/sign-out").status_code == 403
    assert bob.get("/").status_code == 200
    assert erin.post("/staff/bob/sign-out").status_code == 302
    assert bob.get("/").status_code == 302
    assert records(action="person.sessions_ended")[0].target == "bob"
    assert "1 session of bob ended" in text(erin.get("/staff/bob/factors"))


def test_sessions_of_somebody_deactivated_do_not_come_back_to_life(door: Enter) -> None:
    bob = door("bob")
    services.deactivate(actor="erin", username="bob")
    Person.objects.update(is_active=True)
    assert bob.get("/").status_code == 302


def test_a_session_ended_while_a_page_was_made_is_not_written_back(door: Enter) -> None:
    bob = door("bob")
    store = SessionStore(cookie(bob))
    store["x"] = time.time()
    StaffSession.objects.all().delete()
    with pytest.raises(UpdateError):
        store.save()
    assert not StaffSession.objects.exists()
