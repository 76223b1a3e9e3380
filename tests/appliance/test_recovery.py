"""Recovery codes: ten, shown once, kept only hashed and bound to their person, each good for one sign-in."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections

from appliance.accounts import rules, selectors, services
from appliance.accounts.errors import SignInRefusedError
from appliance.accounts.models import Person, RecoveryCode, RecoverySheet
from appliance.accounts.services import factors, recovery
from appliance.audit import selectors as log
from tests.appliance import cast

pytestmark = pytest.mark.django_db


def recorded(action: str) -> tuple[log.Row, ...]:
    return log.search(log.Query(action=action), limit=100)


def refused(actor: str, code: str) -> bool:
    try:
        factors.check_typed(actor=actor, code=code)
    except SignInRefusedError:
        return True
    return False


def test_a_sheet_has_ten_different_codes_of_eighty_bits() -> None:
    cast.member("bob")
    codes = recovery.make(actor="bob", username="bob")
    assert len(set(codes)) == rules.RECOVERY_CODES == 10
    assert all(len(base64.b32decode(code.replace("-", "").upper())) * 8 >= 80 for code in codes)
    assert selectors.factors("bob").recovery_left == 10


def test_a_code_counts_once_and_is_recorded_with_how_many_are_left() -> None:
    cast.member("bob")
    code = recovery.make(actor="bob", username="bob")[0]
    assert factors.check_typed(actor="bob", code=code).user_id == Person.objects.get(username="bob").pk
    assert refused("bob", code)
    (row,) = recorded("person.recovery_code_used")
    assert '"left": 9' in row.detail
    assert selectors.factors("bob").recovery_left == 9


def test_a_code_may_be_written_without_hyphens_and_in_capitals_and_in_no_other_way() -> None:
    cast.member("bob")
    one, two, three, *_ = recovery.make(actor="bob", username="bob")
    full_width = "".join(chr(ord(letter) + 0xFEE0) if letter != "-" else letter for letter in three)
    for odd in (f" {three}", f"{three}\n", three[:-1], f"{three}a", full_width, three.replace("-", "_"), ""):
        assert refused("bob", odd), repr(odd)
    assert not refused("bob", one.upper())
    assert not refused("bob", two.replace("-", ""))
    assert not refused("bob", three)


def test_a_new_sheet_makes_the_old_one_void() -> None:
    cast.member("bob")
    old = recovery.make(actor="bob", username="bob")
    new = recovery.make(actor="bob", username="bob")
    assert refused("bob", old[0])
    assert not refused("bob", new[0])
    assert RecoveryCode.objects.count() == 10


def test_a_dump_of_the_table_holds_no_code_and_a_row_moved_to_another_person_opens_nothing() -> None:
    cast.member("bob")
    cast.member("carol")
    codes = recovery.make(actor="bob", username="bob")
    recovery.make(actor="carol", username="carol")
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(c)::text FROM accounts_recoverycode c")
        dump = "".join(row[0] for row in cursor.fetchall())
    assert not any(spelling in dump for code in codes for spelling in (code, code.replace("-", ""), code.upper()))
    RecoveryCode.objects.filter(sheet__user__username="carol").delete()
    RecoveryCode.objects.update(sheet=RecoverySheet.objects.get(user__username="carol"))
    assert refused("carol", codes[0])


def test_wrong_codes_of_both_kinds_count_together_and_lock() -> None:
    bob = cast.member("bob")
    codes = recovery.make(actor="bob", username="bob")
    for n in range(10):
        assert refused("bob", "aaaa-aaaa-aaaa-aaaa" if n % 2 else "12345x")
    assert refused("bob", codes[0])
    assert refused("bob", bob.code())
    Person.objects.update(locked_until=None)
    assert not refused("bob", codes[0])


def test_a_right_code_forgives_the_failures_before_it() -> None:
    cast.member("bob")
    codes = recovery.make(actor="bob", username="bob")
    for _ in range(9):
        assert refused("bob", "aaaa-aaaa-aaaa-aaaa")
    assert not refused("bob", codes[0])
    assert Person.objects.get(username="bob").failures == 0


def test_a_deactivated_person_has_no_use_of_a_code() -> None:
    cast.member("bob")
    codes = recovery.make(actor="bob", username="bob")
    services.deactivate(actor="erin", username="bob")
    assert refused("bob", codes[0])


@pytest.mark.django_db(transaction=True)
def test_of_eight_posts_of_one_code_at_once_exactly_one_counts() -> None:
    cast.member("bob")
    code = recovery.make(actor="bob", username="bob")[0]

    def post(_: int) -> bool:
        try:
            return not refused("bob", code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(post, range(8))) == 1
