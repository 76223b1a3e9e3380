"""Security keys: what is refused (replay, origin, RP id, unverified, cloned, of another session or person), beside what is accepted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.utils import timezone

from appliance.accounts import rules, selectors
from appliance.accounts.errors import FactorError, PasskeyRefusedError, SignInRefusedError
from appliance.accounts.models import Challenge, Passkey, Person
from appliance.accounts.services import codes, factors, passkeys
from appliance.audit import selectors as log
from tests.appliance import cast
from tests.appliance.waiters import somebody_waits_for_a_lock
from tests.simulators.security_key import PRESENT, VERIFIED, SecurityKey
from tests.waiting import until

pytestmark = pytest.mark.django_db

HERE = "a" * 40
ELSEWHERE = "b" * 40


def enrolled(username: str = "bob", name: str = "desk", key: SecurityKey | None = None) -> SecurityKey:
    """The person exists, with this key."""
    if not Person.objects.filter(username=username).exists():
        cast.member(username)
    key = key or SecurityKey()
    options = passkeys.enrolment_options(username=username, session=HERE)
    passkeys.enrol(actor=username, session=HERE, name=name, answer=key.create(options))
    return key


def asked(session: str = HERE, username: str = "bob") -> str:
    return passkeys.question(username=username, session=session, purpose=passkeys.SIGN_IN)


def refused(answer: str, *, session: str = HERE, username: str = "bob", purpose: str = passkeys.SIGN_IN) -> bool:
    try:
        passkeys.check(actor=username, session=session, purpose=purpose, answer=answer)
    except SignInRefusedError:
        return True
    return False


def reasons() -> list[str]:
    return [row.outcome for row in log.search(log.Query(action="person.passkey_refused"), limit=100)]


def test_a_key_is_enrolled_recorded_listed_and_opens() -> None:
    key = enrolled()
    assert [row.name for row in selectors.factors("bob").keys] == ["desk"]
    assert log.search(log.Query(action="person.passkey_enrolled"), limit=5)
    assert not refused(key.get(asked()))
    assert selectors.factors("bob").keys[0].last_used_at is not None


def test_an_answer_counts_once() -> None:
    key = enrolled()
    answer = key.get(asked())
    assert not refused(answer)
    assert refused(answer)
    # Nor after a new question: it was asked for another signature.
    asked()
    assert refused(answer)


def test_a_challenge_is_gone_after_the_first_answer_even_a_wrong_one() -> None:
    key = enrolled()
    options = asked()
    assert refused(SecurityKey(credential_id=key.credential_id).get(options))
    assert refused(key.get(options))
    assert reasons()[0] == "no_challenge"
    assert not refused(key.get(asked()))


def test_a_challenge_of_an_enrolment_is_gone_after_a_wrong_answer_too() -> None:
    cast.member("bob")
    options = passkeys.enrolment_options(username="bob", session=HERE)
    with pytest.raises(PasskeyRefusedError):
        passkeys.enrol(actor="bob", session=HERE, name="x", answer=SecurityKey(flags=PRESENT).create(options))
    with pytest.raises(PasskeyRefusedError) as refused_again:
        passkeys.enrol(actor="bob", session=HERE, name="x", answer=SecurityKey().create(options))
    assert refused_again.value.reason == "no_challenge"
    assert not selectors.factors("bob").keys


def test_a_challenge_of_another_session_or_purpose_is_refused() -> None:
    key = enrolled()
    assert refused(key.get(asked()), session=ELSEWHERE)
    assert refused(key.get(asked()), purpose=passkeys.STEP_UP)
    here = asked()
    asked(ELSEWHERE)
    assert refused(key.get(here), session=ELSEWHERE)
    assert not refused(key.get(asked()))


def test_a_challenge_is_old_after_five_minutes() -> None:
    key = enrolled()
    options = asked()
    Challenge.objects.update(made_at=timezone.now() - rules.CHALLENGE_FOR)
    assert refused(key.get(options))
    assert reasons() == ["challenge_expired"]
    options = asked()
    Challenge.objects.update(made_at=timezone.now() - rules.CHALLENGE_FOR + timedelta(seconds=20))
    assert not refused(key.get(options))


@pytest.mark.parametrize(
    "bend",
    [
        {"origin": "https://localhost:18800"},
        {"origin": "http://localhost:18801"},
        {"origin": "http://localhost.evil.example:18800"},
        {"rp_id": "evil.example"},
        {"flags": PRESENT},
        {"flags": VERIFIED},
        {"flags": 0},
    ],
    ids=["scheme", "port", "host", "rp-id", "not-verified", "not-present", "neither"],
)
def test_a_wrong_origin_rp_id_or_flag_is_refused_at_sign_in_and_at_enrolment(bend: dict[str, object]) -> None:
    key = enrolled()
    right = {name: getattr(key, name) for name in bend}
    for name, value in bend.items():
        setattr(key, name, value)
    assert refused(key.get(asked()))
    for name, value in right.items():
        setattr(key, name, value)
    assert not refused(key.get(asked()))
    with pytest.raises(PasskeyRefusedError):
        enrolled(key=SecurityKey(**bend))  # type: ignore[arg-type]  # the fields above
    assert Passkey.objects.count() == 1


def test_a_counter_that_stands_still_or_goes_back_is_refused_and_recorded() -> None:
    key = enrolled()
    key.count = 40
    assert not refused(key.get(asked()))
    for count in (40, 39, 0):
        key.count = count
        assert refused(key.get(asked())), count
    assert reasons() == ["counter_went_back"] * 3
    key.count = 41
    assert not refused(key.get(asked()))


def test_a_key_without_a_counter_is_accepted_each_time() -> None:
    key = enrolled()
    for _ in range(3):
        key.count = -1
        assert not refused(key.get(asked()))


def test_another_persons_key_is_refused_and_a_row_moved_to_somebody_opens_nothing() -> None:
    bobs = enrolled()
    enrolled("carol")
    assert refused(bobs.get(asked(username="carol")), username="carol")
    # Who writes the database cannot give a person a key: its seal names the row, the person and the credential.
    carol = Person.objects.get(username="carol")
    Passkey.objects.filter(user__username="bob").update(user_id=carol.pk)
    assert refused(bobs.get(asked(username="carol")), username="carol")
    assert "seal_broken" in reasons()


def test_a_key_written_by_hand_into_the_database_opens_nothing() -> None:
    enrolled()
    own = SecurityKey()
    bob = Person.objects.get(username="bob")
    sealed = Passkey.objects.get().sealed_key
    Passkey.objects.create(user_id=bob.pk, name="x", credential_id=own.credential_id, sealed_key=sealed)
    assert refused(own.get(asked()))


@pytest.mark.parametrize(
    "mangle",
    [
        lambda _: "",
        lambda _: "null",
        lambda _: "[]",
        lambda _: "{}",
        lambda _: '{"id": 1, "rawId": [], "response": "x", "type": "public-key"}',
        lambda answer: answer[:-20],
        lambda answer: answer.replace('"authenticatorData": "', '"authenticatorData": "AAAA'),
        lambda answer: answer.replace('"signature": "', '"signature": "AAAA'),
        lambda answer: answer.replace("webauthn", "x"),
        lambda answer: answer.replace('"public-key"', '"password"'),
        lambda _: "[" * 100_000,
        lambda _: '{"id": "\ud800"}',
        lambda answer: answer.replace('"attestationObject": "', '"attestationObject": "AAAA'),
    ],
)
def test_an_answer_that_is_not_one_is_a_refusal_and_never_a_failure_of_ours(mangle: Callable[[str], str]) -> None:
    key = enrolled()
    answer = key.get(asked())
    # What spoils only the other kind of answer leaves this one as it was, and then it counts.
    assert refused(mangle(answer)) == (mangle(answer) != answer)
    created = SecurityKey().create(passkeys.enrolment_options(username="bob", session=HERE))
    if mangle(created) != created:
        with pytest.raises(FactorError):
            passkeys.enrol(actor="bob", session=HERE, name="x", answer=mangle(created))


def test_refusals_count_and_lock() -> None:
    key = enrolled()
    for _ in range(10):
        assert refused("{}")
    assert refused(key.get(asked()))
    Person.objects.update(locked_until=None)
    assert not refused(key.get(asked()))


def test_a_key_is_enrolled_once_and_the_browser_is_told_which_are_there() -> None:
    key = enrolled()
    options = passkeys.enrolment_options(username="bob", session=HERE)
    assert key.create(options).split('"id": "')[1][:20] in options
    with pytest.raises(FactorError, match="already enrolled"):
        passkeys.enrol(actor="bob", session=HERE, name="again", answer=key.create(options))


def test_somebody_without_a_key_or_unknown_is_asked_nothing() -> None:
    cast.member("bob")
    assert asked() == ""
    assert asked(username="nobody") == ""
    assert Challenge.objects.count() == 0


def test_the_last_factor_stays_and_an_approver_keeps_the_generator() -> None:
    cast.member("alice")
    enrolled("alice")
    enrolled("alice", name="spare")
    factors.remove_generator(actor="alice")
    first, second = (row.id for row in selectors.factors("alice").keys)
    factors.remove_key(actor="alice", key_id=first)
    with pytest.raises(FactorError, match="only second factor"):
        factors.remove_key(actor="alice", key_id=second)
    assert [row.id for row in selectors.factors("alice").keys] == [second]
    assert len(log.search(log.Query(action="person.factor_removed"), limit=9)) == 2
    enrolled("bob")
    with pytest.raises(FactorError, match="approvals"):
        factors.remove_generator(actor="bob")


def test_nobody_takes_away_a_key_of_somebody_else() -> None:
    enrolled("bob")
    cast.member("carol")
    with pytest.raises(FactorError):
        factors.remove_key(actor="carol", key_id=selectors.factors("bob").keys[0].id)
    assert selectors.factors("bob").keys


def test_a_generator_is_enrolled_by_its_owner_and_counts_after_a_code_of_it() -> None:
    bob = cast.member("bob")
    seed = codes.enrol_totp(actor="bob", username="bob")
    assert codes.waiting_seed(username="bob") == seed
    assert not codes.confirm_totp(actor="bob", username="bob", code=bob.code())
    codes.check_code(actor="bob", code=bob.code())
    new = cast.Member("bob", bob.password, seed)
    assert codes.confirm_totp(actor="bob", username="bob", code=new.code())
    with pytest.raises(SignInRefusedError):
        codes.check_code(actor="bob", code=bob.code(steps=1))
    with pytest.raises(FactorError):
        codes.waiting_seed(username="bob")


@pytest.mark.django_db(transaction=True)
def test_of_eight_posts_of_one_answer_at_once_exactly_one_counts() -> None:
    key = enrolled()
    answer = key.get(asked())

    def post(_: int) -> bool:
        try:
            return not refused(answer)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(post, range(8))) == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_removals_at_once_the_second_waits_and_then_finds_that_its_factor_is_the_last() -> None:
    enrolled("alice")
    enrolled("alice", name="spare")
    factors.remove_generator(actor="alice")
    first, second = (row.id for row in selectors.factors("alice").keys)

    def remove() -> bool:
        try:
            factors.remove_key(actor="alice", key_id=second)
        except FactorError:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            factors.remove_key(actor="alice", key_id=first)
            removed = pool.submit(remove)
            until(lambda: removed.done() or somebody_waits_for_a_lock(), 20, "the second removal waits, or has not")
        assert not removed.result()
    assert [row.id for row in selectors.factors("alice").keys] == [second]
