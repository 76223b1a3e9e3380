"""First boot: two people or nobody, once, by whoever has root; and afterwards there is no such page."""

from __future__ import annotations

import base64
import re
import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from appliance.accounts import rules
from appliance.accounts.errors import FirstBootError, FirstBootOverError
from appliance.accounts.models import FirstBoot, Person, SigningKey, TotpDevice
from appliance.accounts.services import first_boot
from tests.appliance import cast
from tests.console.door import enter, records, text

pytestmark = pytest.mark.django_db

FORM = {
    "one-username": "ines", "one-display_name": "Ines Adler", "one-password": "ines-has-a-long-password",
    "two-username": "sven", "two-display_name": "Sven Okoye", "two-password": "sven-has-a-long-password",
}  # fmt: skip


def new_secret() -> str:
    out = StringIO()
    call_command("first_boot", stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def begin(secret: str = "") -> Client:
    """A browser with a sitting begun."""
    browser = Client()
    answer = browser.post("/first-boot", {"secret": secret or new_secret()})
    assert answer["Location"] == "/first-boot/people"
    return browser


def seeds(browser: Client) -> list[bytes]:
    """The two seeds as the page shows them."""
    shown = re.findall(r'<code class="secret">([A-Z2-7 ]+)</code>', text(browser.get("/first-boot/people")))
    return [base64.b32decode(one.replace(" ", "")) for one in shown]


def filled(browser: Client, **changed: str) -> dict[str, str]:
    """The form as two people fill it in who do everything right, but for what is changed."""
    first, second = seeds(browser)
    form = {
        **FORM,
        "one-again": FORM["one-password"],
        "two-again": FORM["two-password"],
        "one-code": cast.Member("ines", "", first).code(),
        "two-code": cast.Member("sven", "", second).code(),
    }
    return form | {name.replace("_", "-", 1): value for name, value in changed.items()}


def nobody() -> bool:
    return not (Person.objects.exists() or TotpDevice.objects.exists() or SigningKey.objects.exists())


def test_two_people_are_made_in_one_sitting_and_both_can_sign_in_with_both_factors() -> None:
    browser = begin()
    made = seeds(browser)
    page = browser.post("/first-boot/people", filled(browser))
    assert "Ines Adler" in text(page)
    assert {person.username: person.roles for person in Person.objects.all()} == {
        "ines": ["it_admin"],
        "sven": ["approver", "security_officer"],
    }
    assert SigningKey.objects.get().person == "sven"
    for name, seed in zip(("ines", "sven"), made, strict=True):
        member = cast.Member(name, FORM[f"{'one' if name == 'ines' else 'two'}-password"], seed)
        assert enter(member, Client()).get("/profile").status_code == 200
    (done,) = records(action="first_boot.done")
    assert '"ines"' in done.detail
    assert len(records(action="person.created")) == 2


def test_a_code_used_for_the_first_boot_opens_no_door_afterwards() -> None:
    browser = begin()
    form = filled(browser)
    browser.post("/first-boot/people", form)
    door = Client()
    door.post("/sign-in", {"username": "ines", "password": FORM["one-password"]})
    assert door.post("/sign-in/code", {"code": form["one-code"]}).status_code == 403


def test_afterwards_there_is_no_such_page_whatever_is_sent_and_even_without_the_people() -> None:
    secret = new_secret()
    browser = begin(secret)
    form = filled(browser)
    browser.post("/first-boot/people", form)
    for visitor in (browser, Client()):
        assert visitor.get("/first-boot").status_code == 404
        assert visitor.post("/first-boot", {"secret": secret}).status_code == 404
        assert visitor.get("/first-boot/people").status_code == 404
        assert visitor.post("/first-boot/people", form).status_code == 404
    assert "first-boot" not in text(Client().get("/sign-in"))
    Person.objects.all().delete()
    assert Client().get("/first-boot").status_code == 404
    with pytest.raises(CommandError, match="already has its people"):
        new_secret()
    row = FirstBoot.objects.get()
    assert (row.secret_digest, row.sitting_digest, bytes(row.sealed_seeds)) == ("", "", b"")


def test_where_somebody_was_made_by_command_there_is_no_such_page_and_no_secret() -> None:
    assert Client().get("/first-boot").status_code == 200
    assert "Make its first two people" in text(Client().get("/sign-in"))
    cast.member("erin")
    assert Client().get("/first-boot").status_code == 404
    assert "Make its first two people" not in text(Client().get("/sign-in"))
    with pytest.raises(CommandError, match="already has its people"):
        new_secret()


@pytest.mark.parametrize(
    "changed",
    [
        {"two_code": "000000"},
        {"one_code": "\uff11\uff12\uff13\uff14\uff15\uff16"},
        {"two_username": "ines"},
        {"two_username": "Sven Okoye"},
        {"two_password": "short", "two_again": "short"},
        {"two_again": "another-long-password"},
        {"two_password": FORM["one-password"], "two_again": FORM["one-password"]},
        {"two_username": ""},
        {"one_display_name": ""},
    ],
    ids=str,
)
def test_half_right_is_nothing_and_the_same_sitting_can_still_get_it_right(changed: dict[str, str]) -> None:
    browser = begin()
    assert browser.post("/first-boot/people", filled(browser, **changed)).status_code == 403
    assert nobody()
    assert records(action="person.created") == ()
    assert browser.post("/first-boot/people", filled(browser)).status_code == 200
    assert Person.objects.count() == 2


def test_the_two_generators_are_two_and_one_persons_code_does_not_do_for_the_other() -> None:
    browser = begin()
    first, second = seeds(browser)
    assert first != second
    form = filled(browser)
    form["two-code"] = form["one-code"]
    assert browser.post("/first-boot/people", form).status_code == 403
    assert nobody()


def test_without_the_secret_or_with_a_wrong_one_there_is_no_second_step() -> None:
    new_secret()
    browser = Client()
    assert browser.get("/first-boot/people")["Location"] == "/first-boot"
    assert browser.post("/first-boot/people", {}).status_code == 302
    assert browser.post("/first-boot", {"secret": "aaaa-bbbb"}).status_code == 403
    assert browser.get("/first-boot/people")["Location"] == "/first-boot"
    refusal = records(action="first_boot.refused")[0]
    assert refusal.outcome == "first_boot_secret"
    assert "aaaa" not in refusal.detail


def test_before_any_secret_was_made_every_secret_is_wrong() -> None:
    for secret in ("", "aaaa", "a" * 32):
        assert Client().post("/first-boot", {"secret": secret}).status_code == 403
    assert begin().get("/first-boot/people").status_code == 200


def test_ten_wrong_secrets_use_the_right_one_up_and_a_new_one_works() -> None:
    secret = new_secret()
    for _ in range(rules.FIRST_BOOT_TRIES):
        Client().post("/first-boot", {"secret": "wrong"})
    assert Client().post("/first-boot", {"secret": secret}).status_code == 403
    assert begin().get("/first-boot/people").status_code == 200


def test_a_secret_is_over_after_an_hour_with_the_sitting_it_began() -> None:
    secret = new_secret()
    browser = begin(secret)
    form = filled(browser)
    FirstBoot.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert browser.post("/first-boot/people", form)["Location"] == "/first-boot"
    assert Client().post("/first-boot", {"secret": secret}).status_code == 403
    assert nobody()


def test_a_new_secret_ends_the_old_one_and_what_it_began() -> None:
    old = new_secret()
    browser = begin(old)
    form = filled(browser)
    begin()
    assert browser.post("/first-boot/people", form)["Location"] == "/first-boot"
    assert Client().post("/first-boot", {"secret": old}).status_code == 403
    assert nobody()


def test_entering_the_secret_again_makes_new_seeds_and_ends_the_sitting_before() -> None:
    secret = new_secret()
    earlier, later = begin(secret), Client()
    form = filled(earlier)
    shown = seeds(earlier)
    later.post("/first-boot", {"secret": f" {secret.upper()} "})
    assert set(seeds(later)).isdisjoint(shown)
    assert earlier.post("/first-boot/people", form)["Location"] == "/first-boot"
    assert later.post("/first-boot/people", filled(later)).status_code == 200


def test_no_seed_and_no_secret_stands_in_the_database() -> None:
    secret = new_secret()
    browser = begin(secret)
    first, _ = seeds(browser)
    row = FirstBoot.objects.get()
    kept = [row.secret_digest.encode(), row.sitting_digest.encode(), bytes(row.sealed_seeds)]
    kept += [str(dict(browser.session)).encode()]
    for plain in (first, base64.b32encode(first), secret.encode(), secret.replace("-", "").encode()):
        assert all(plain not in one for one in kept)


def test_the_database_keeps_one_row_and_nothing_in_it_once_it_is_done() -> None:
    new_secret()
    with pytest.raises(IntegrityError, match="one_row"), transaction.atomic():
        FirstBoot.objects.create(number=2, expires_at=timezone.now())
    with pytest.raises(IntegrityError, match="done_keeps_nothing"), transaction.atomic():
        FirstBoot.objects.update(done_at=timezone.now())


@pytest.mark.django_db(transaction=True)
def test_of_two_who_finish_at_the_same_moment_one_makes_two_people_and_the_other_none() -> None:
    sitting = first_boot.begin(actor="unknown", secret=new_secret())
    made = first_boot.seeds(sitting=sitting)
    together, ends = threading.Barrier(2), []

    def finish(names: tuple[str, str]) -> None:
        newcomers = [
            first_boot.Newcomer(name, name, f"{name}-has-a-long-password", cast.Member(name, "", seed).code())
            for name, seed in zip(names, made, strict=True)
        ]
        try:
            together.wait(30)
            first_boot.finish(actor="unknown", sitting=sitting, newcomers=newcomers)
            ends.append("made")
        except FirstBootError as error:
            ends.append(type(error).__name__)
        finally:
            connection.close()

    threads = [threading.Thread(target=finish, args=(names,)) for names in (("ines", "sven"), ("ivy", "stan"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ends) == [FirstBootOverError.__name__, "made"]
    assert {person.username for person in Person.objects.all()} in ({"ines", "sven"}, {"ivy", "stan"})
    assert len(records(action="first_boot.done")) == 1


def test_whoever_comes_second_reads_that_it_is_done_and_not_that_they_did_it(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = begin()
    form = filled(browser)

    def late(**_: object) -> None:
        raise FirstBootOverError

    monkeypatch.setattr(first_boot, "finish", late)
    answer = browser.post("/first-boot/people", form)
    assert answer.status_code == 409
    assert "first_boot_over" in text(answer)
