"""Group H of the bad inputs that no other file holds: what is left after test_sign_in, test_sessions, test_second_factor and
tests/appliance/test_passkeys.py; the lines' numbers are those of the list."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connections, transaction
from django.test import Client, override_settings

from appliance.accounts import rules
from appliance.accounts import services as accounts
from appliance.accounts.errors import SignInRefusedError
from appliance.accounts.models import NetworkFailures, Person
from appliance.accounts.services import attempts
from tests.appliance import cast
from tests.appliance.waiters import somebody_waits_for_a_lock
from tests.console.conftest import Enter
from tests.console.door import enter, records, text
from tests.console.keyholder import first_step
from tests.console.sitemap import addresses
from tests.waiting import until

pytestmark = pytest.mark.django_db


WRONG = "wrong"


def knock(name: str, password: str = WRONG, source: str = "10.1.2.3") -> int:
    return Client(REMOTE_ADDR=source).post("/sign-in", {"username": name, "password": password}).status_code


# 127, T40: one voice, one class of time, and a limit for the place the guesses come from.


def test_127_an_unknown_name_takes_as_long_as_a_known_one() -> None:
    cast.member("bob")
    taken: dict[str, list[float]] = {"bob": [], "nobody": []}
    knock("nobody")  # whatever is loaded once is loaded now
    for _ in range(9):
        for name, times in taken.items():
            began = time.perf_counter()
            assert knock(name) == 403
            times.append(time.perf_counter() - began)
    ratio = statistics.median(taken["bob"]) / statistics.median(taken["nobody"])
    # Without the work for nobody it is about ten to one: the bounds leave a busy machine its noise.
    assert 0.4 < ratio < 2.5


def test_t40_one_password_on_many_names_is_stopped_by_where_it_comes_from() -> None:
    bob = cast.member("bob")
    for n in range(rules.NETWORK_FAILURES):
        attempts.count_network_failure(source="10.1.2.3")
        if n == rules.NETWORK_FAILURES - 2:
            assert knock("bob", bob.password) == 302, "one failure below the limit still opens"
    assert knock("bob", bob.password) == 403
    assert "is not right, or the account is locked" in text(
        Client(REMOTE_ADDR="10.1.2.3").post("/sign-in", {"username": "bob", "password": bob.password})
    )
    assert knock("bob", bob.password, source="10.1.2.4") == 302
    (held,) = records(action="network.held")
    assert held.target == "10.1.2.3"
    NetworkFailures.objects.update(since=NetworkFailures.objects.get(network="10.1.2.3").since - rules.NETWORK_WINDOW)
    assert knock("bob", bob.password) == 302


def test_t40_failures_are_counted_by_the_door_for_every_name_and_begin_anew_with_the_window() -> None:
    cast.member("bob")
    for name in ("bob", "nobody", "carol"):
        assert knock(name) == 403
    assert NetworkFailures.objects.get().failures == 3
    NetworkFailures.objects.update(since=NetworkFailures.objects.get().since - rules.NETWORK_WINDOW)
    assert knock("nobody") == 403
    assert NetworkFailures.objects.get().failures == 1


def test_t40_addresses_of_one_ipv6_network_are_one_and_no_address_is_nobody() -> None:
    assert rules.network_of("2001:db8:1:2:3::4") == rules.network_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert rules.network_of("10.1.2.3") != rules.network_of("10.1.2.4")
    # Behind a unix socket nothing is known of the address: one that holds everybody would shut everybody out.
    assert rules.network_of("") == rules.network_of("unix:") == ""


# 129: the counter outlives what goes wrong after it.


def test_129_the_counter_outlives_an_exception_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    bob = cast.member("bob")

    def broken(**_: object) -> None:
        raise RuntimeError("planted")

    browser = Client(raise_request_exception=False)
    monkeypatch.setattr("console.pages.sign_in.attempts.count_network_failure", broken)
    for _ in range(10):
        assert browser.post("/sign-in", {"username": "bob", "password": "wrong"}).status_code == 500
    monkeypatch.undo()
    assert Person.objects.get(username="bob").locked_until is not None
    assert knock("bob", bob.password) == 403


def test_129_no_page_runs_inside_a_transaction_that_a_refusal_could_roll_back() -> None:
    assert settings.DATABASES["default"]["ATOMIC_REQUESTS"] is False


# 130: two posts of one code at once.


@pytest.mark.django_db(transaction=True)
def test_130_of_eight_posts_of_one_code_at_once_exactly_one_counts() -> None:
    bob = cast.member("bob")
    code = bob.code()

    def post(_: int) -> bool:
        try:
            accounts.check_code(actor="bob", code=code)
        except SignInRefusedError:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(post, range(8))) == 1


@pytest.mark.django_db(transaction=True)
def test_130_a_code_read_as_fresh_while_another_post_uses_it_does_not_count() -> None:
    bob = cast.member("bob")
    code = bob.code()

    def post() -> bool:
        try:
            accounts.check_code(actor="bob", code=code)
        except SignInRefusedError:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            accounts.check_code(actor="bob", code=code)
            # The second one cannot see yet that the step is used; it waits for the row, and looks again.
            second = pool.submit(post)
            until(lambda: second.done() or somebody_waits_for_a_lock(), 20, "the second post waits, or has not")
        assert not second.result()


# 133: the password alone opens nothing.


def test_133_after_the_password_alone_every_page_is_still_closed() -> None:
    browser = first_step(cast.member("bob"))
    closed = [address for address in addresses() if address.permission is not None]
    assert len(closed) > 40
    for address in closed:
        for method in ("get", "post"):
            response = getattr(browser, method)(address.path)
            assert response.status_code == 302, f"{method} {address.path}"
            assert response["Location"].startswith("/sign-in"), f"{method} {address.path}"
    # And what was begun can still be ended properly.
    cast.forget_used_codes()
    assert browser.post("/sign-in/code", {"code": cast.Member("bob", "").code()}).status_code == 302


# 135: where a session's name may come from, and what its cookie says.


def test_135_a_session_named_in_the_address_or_a_form_is_nobodys(door: Enter) -> None:
    bob = door("bob")
    named = bob.browser.cookies["isoward_session"].value
    stranger = Client()
    for field in ("isoward_session", "sessionid", "session_key"):
        assert stranger.get("/", {field: named}).status_code == 302
        assert stranger.post("/profile/theme", {field: named})["Location"].startswith("/sign-in")
        assert stranger.get("/", headers={f"X-{field}": named}).status_code == 302


def test_135_under_tls_both_cookies_are_secure_and_neither_is_for_scripts_or_other_sites() -> None:
    with override_settings(SESSION_COOKIE_SECURE=True, CSRF_COOKIE_SECURE=True):
        bob = enter(cast.member("bob"), Client())
        bob.get("/profile")
    for name in ("isoward_session", "isoward_csrf"):
        cookie = bob.browser.cookies[name]
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Strict"), name


# 138: what changes something is posted, by our own forms.


def test_138_no_page_changes_anything_when_it_is_only_opened() -> None:
    for username in ("alice", "bob", "dave", "erin"):
        person = enter(cast.member(username), Client())
        before = {(row.shard, row.seq) for row in records()}
        for address in addresses():
            for method in ("get", "head", "options"):
                getattr(person.browser, method)(address.path)
        acts = {row.action for row in records() if (row.shard, row.seq) not in before and row.kind == "act"}
        # Reading the log is itself on record.
        assert acts <= {"audit.read"}, username


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/x-www-form-urlencoded"])
def test_138_a_post_without_our_forms_token_is_refused_whatever_it_says_it_is(door: Enter, kind: str) -> None:
    bob = door("bob")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = bob.browser.cookies
    for path in ("/sign-out", "/profile/sessions/end-all", "/profile/recovery", "/step-up"):
        response = strict.post(path, b'{"a": 1}', content_type=kind)
        assert response.status_code == 403, path
        assert "csrf_failed" in text(response)
    assert bob.get("/").status_code == 200


# 136: the rest of the list is in test_sign_in and test_sessions; this one is T23's.


def test_136_a_session_does_not_outlive_the_factor_that_opened_it(door: Enter) -> None:
    bob, carol = door("bob"), door("carol")
    accounts.enrol_totp(actor="erin", username="bob", confirmed=True)
    assert bob.get("/").status_code == 302
    assert carol.get("/").status_code == 200


def test_136_the_limits_are_the_promised_ones() -> None:
    assert timedelta(seconds=settings.SESSION_COOKIE_AGE) == timedelta(hours=12)
