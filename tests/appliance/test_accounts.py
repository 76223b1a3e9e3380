"""People: duties kept apart, two factors, lockout that survives, and keys that open with a password alone."""

from __future__ import annotations

import itertools

import pytest
from django.db import IntegrityError, transaction

from appliance.accounts import permissions, rules, selectors, services
from appliance.accounts.errors import PersonError, RoleConflictError, SignInRefusedError
from appliance.accounts.models import Person, SigningKey, TotpDevice
from appliance.accounts.permissions import APART, Role
from appliance.keyring import services as keyring
from appliance.keyring.errors import SealBrokenError
from tests.appliance import cast

pytestmark = pytest.mark.django_db


def test_no_set_of_roles_that_is_accepted_puts_two_duties_in_one_hand() -> None:
    for size in range(1, len(Role) + 1):
        for roles in itertools.combinations([role.value for role in Role], size):
            held = permissions.granted(roles)
            together = any(held >= apart.pair for apart in APART)
            if together:
                with pytest.raises(RoleConflictError):
                    rules.check_roles(roles)
            else:
                rules.check_roles(roles)


def test_the_database_refuses_a_proposer_who_approves_even_past_the_service() -> None:
    cast.member("bob")
    with pytest.raises(IntegrityError), transaction.atomic():
        Person.objects.filter(username="bob").update(roles=["approver", "model_operator"])
    Person.objects.filter(username="bob").update(roles=["approver", "viewer"])


def test_nobody_changes_their_own_roles() -> None:
    cast.member("erin")
    with pytest.raises(PersonError):
        services.set_roles(actor="erin", username="erin", roles=["approver"])


def test_the_right_password_and_code_pass_and_the_code_counts_once() -> None:
    bob = cast.member("bob")
    assert services.check_password(actor="bob", password=bob.password).username == "bob"
    code = bob.code()
    services.check_code(actor="bob", code=code)
    with pytest.raises(SignInRefusedError):
        services.check_code(actor="bob", code=code)


@pytest.mark.parametrize("odd", ["fullwidth", "12_456", " 123456", "+12345", "arabic", "", "1234567"])
def test_odd_spellings_of_a_right_code_are_refused(odd: str) -> None:
    bob = cast.member("bob")
    code = bob.code()
    spelled = {
        "fullwidth": "".join(chr(ord("0") + (ord(c) - 48) + 0xFF10 - 0x30) for c in code),
        "arabic": "".join(chr(0x0660 + int(c)) for c in code),
        " 123456": f" {code}",
        "+12345": f"+{code}",
        "12_456": f"{code[:2]}_{code[2:]}",
        "1234567": code + "0",
    }.get(odd, "")
    with pytest.raises(SignInRefusedError):
        services.check_code(actor="bob", code=spelled)
    services.check_code(actor="bob", code=code)


def test_a_code_from_two_steps_away_is_refused_and_from_one_step_accepted() -> None:
    bob = cast.member("bob")
    with pytest.raises(SignInRefusedError):
        services.check_code(actor="bob", code=bob.code(steps=-3))
    services.check_code(actor="bob", code=bob.code(steps=-1))


def test_ten_wrong_passwords_lock_the_account_against_the_right_one() -> None:
    bob = cast.member("bob")
    for _ in range(9):
        with pytest.raises(SignInRefusedError):
            services.check_password(actor="bob", password="wrong")
    services.check_password(actor="bob", password=bob.password)
    with pytest.raises(SignInRefusedError):
        services.check_password(actor="bob", password="wrong")
    with pytest.raises(SignInRefusedError):
        services.check_password(actor="bob", password=bob.password)


def test_unknown_disabled_and_wrong_get_the_same_words() -> None:
    bob = cast.member("bob")
    texts = set()
    for name, password in [("nobody", "x"), ("bob", "wrong")]:
        with pytest.raises(SignInRefusedError) as refused:
            services.check_password(actor=name, password=password)
        texts.add(str(refused.value))
    services.deactivate(actor="erin", username="bob")
    with pytest.raises(SignInRefusedError) as refused:
        services.check_password(actor="bob", password=bob.password)
    texts.add(str(refused.value))
    assert len(texts) == 1


def test_a_signing_key_opens_with_its_owners_password_and_no_other() -> None:
    bob, carol = cast.member("bob"), cast.member("carol")
    key_id, _ = services.prove(actor="bob", password=bob.password, code=bob.code())
    assert key_id == selectors.person("bob").signing_key_id  # type: ignore[union-attr]  # bob exists
    bobs = SigningKey.objects.get(person="bob")
    carols = SigningKey.objects.get(person="carol")
    SigningKey.objects.filter(person="carol").update(sealed_private_key=bytes(bobs.sealed_private_key))
    with pytest.raises(Exception, match="does not open"):
        services.prove(actor="carol", password=carol.password, code=carol.code())
    assert carols.key_id != bobs.key_id


def test_a_seed_moved_to_another_person_does_not_open() -> None:
    cast.member("bob")
    cast.member("carol")
    bobs = TotpDevice.objects.get(user__username="bob")
    TotpDevice.objects.filter(user__username="carol").update(sealed_seed=bytes(bobs.sealed_seed))
    with pytest.raises(SealBrokenError):
        services.check_code(actor="carol", code=cast.Member("carol", "").code())


def test_sealed_bytes_hold_no_plaintext_and_refuse_a_flipped_bit() -> None:
    sealed = keyring.seal(b"Jane Testpatient", aad=b"row 1")
    assert b"Testpatient" not in sealed
    assert keyring.open_(sealed, aad=b"row 1") == b"Jane Testpatient"
    with pytest.raises(SealBrokenError):
        keyring.open_(sealed, aad=b"row 2")
    with pytest.raises(SealBrokenError):
        keyring.open_(sealed[:-1] + bytes([sealed[-1] ^ 1]), aad=b"row 1")
