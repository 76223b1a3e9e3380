"""A signed statement of who asks: every way to be true, and every way to be refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from inference.clients import assertions
from inference.clients.assertions import Assertions, Claims, Issuer
from inference.clients.errors import BadAssertionError, ClientRefusedError
from tests.simulators.identity import MAKES, Provider, public_pem

IDP = Provider()
OTHER = Provider(name="other", iss="https://other.example", kid="k1")
FOREVER = datetime(2100, 1, 1, tzinfo=UTC)


def issuer(provider: Provider, **changes: Any) -> Issuer:
    keys = MappingProxyType({provider.kid: assertions.load(public_pem(provider.key))})
    return Issuer(
        **{"name": provider.name, "iss": provider.iss, "client": "", "expires": FOREVER, "keys": keys, **changes}
    )


def read(token: str, *known: Issuer, client: str = "ward-7", now: datetime | None = None) -> Claims:
    registered = {item.iss: item for item in known or (issuer(IDP), issuer(OTHER))}
    return Assertions().read(token, registered, client=client, now=now or datetime.now(UTC))


def refusal(token: str, *known: Issuer, **given: Any) -> str:
    with pytest.raises(BadAssertionError) as refused:
        read(token, *known, **given)
    assert refused.value.code == "invalid_end_user_assertion"
    return refused.value.message


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", sorted(MAKES))
def test_each_kind_of_key_proves_who_asks(algorithm: str) -> None:
    provider = Provider(algorithm=algorithm)
    claims = read(
        provider.sign("dr.lee", isoward_tasks=["progress_note"], isoward_purposes=["TREAT"], isoward_phi=True),
        issuer(provider),
    )
    assert claims.end_user == "dr.lee"
    assert claims.vouched_by == "hospital-idp/2026-11"
    assert (claims.only.tasks, claims.only.purposes, claims.only.phi) == (
        frozenset({"progress_note"}),
        frozenset({"TREAT"}),
        True,
    )


def test_what_a_statement_does_not_say_narrows_nothing_but_the_right_to_phi() -> None:
    only = read(IDP.sign()).only
    assert (only.tasks, only.purposes, only.phi) == (None, None, False)
    assert read(IDP.sign(isoward_tasks=[])).only.tasks == frozenset()


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": None}, {"aud": "other"}, {"aud": ["isoward", "other"]}, {"aud": []}, {"aud": {"isoward": 1}},
        {"exp": None}, {"iat": None}, {"exp": "4102444800"}, {"exp": 4102444800.5}, {"exp": True}, {"iat": -1},
        {"exp": 4102444800}, {"iat": 1}, {"exp": 1, "iat": 1}, {"nbf": "1"}, {"nbf": True}, {"nbf": 4102444800},
        {"sub": None}, {"sub": ""}, {"sub": "x" * 129}, {"sub": "two words"}, {"sub": "dr.lee\n"}, {"sub": 7},
        {"sub": "dr.l\u00e9e"}, {"iss": None}, {"iss": "https://unknown.example"}, {"iss": ["https://idp.hospital.example"]},
        {"azp": None}, {"azp": ""}, {"azp": "ward-8"}, {"azp": ["ward-7"]}, {"azp": None, "client_id": "ward-8"},
        {"client_id": "ward-8"}, {"client_id": 7}, {"isoward_phi": "true"}, {"isoward_phi": 1}, {"isoward_phi": []},
        {"isoward_tasks": "progress_note"}, {"isoward_tasks": [1]}, {"isoward_tasks": {"a": 1}},
        {"isoward_tasks": ["x"] * 65}, {"isoward_purposes": "TREAT"}, {"isoward_purposes": [["TREAT"]]},
    ],
)  # fmt: skip
def test_a_claim_that_is_missing_or_of_another_type_refuses_the_token(changes: dict[str, Any]) -> None:
    assert refusal(IDP.sign(**changes))


def test_null_is_not_left_out() -> None:
    payload = json.dumps({**IDP.claims(), "isoward_phi": None}).encode()
    assert refusal(IDP.signed(payload))
    assert refusal(IDP.signed(json.dumps({**IDP.claims(), "isoward_tasks": None}).encode()))


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"null", b"7", b'"x"', b"{", b"\xff\xfe", b"[" * 3000, b'{"a":' * 40 + b"1" + b"}" * 40,
        b'{"iss": "https://idp.hospital.example", "exp": NaN}',
    ],
)  # fmt: skip
def test_claims_that_are_no_plain_object_are_refused(payload: bytes) -> None:
    assert refusal(IDP.signed(payload))


def test_a_claim_said_twice_is_refused() -> None:
    said = json.dumps(IDP.claims())
    twice = said[:-1] + ', "isoward_phi": false, "isoward_phi": true}'
    assert "each name once" in refusal(IDP.signed(twice.encode()))


def test_another_keys_signature_is_refused() -> None:
    forged = Provider(key=ec.generate_private_key(ec.SECP256R1()))
    assert "signature" in refusal(forged.sign())
    head, payload, _ = IDP.sign().split(".")
    _, _, signature = IDP.sign("dr.kim").split(".")
    assert "signature" in refusal(f"{head}.{payload}.{signature}")


def test_one_issuer_cannot_speak_for_another() -> None:
    assert refusal(OTHER.sign(iss=IDP.iss))
    assert refusal(OTHER.sign(iss=IDP.iss, headers={"kid": IDP.kid}))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS256", "HS512", "RS256", "ES384", "PS256", "EdDSA", "", "es256"]
)
def test_a_token_does_not_choose_its_algorithm(algorithm: str) -> None:
    """`none`, and the public key as the secret of an HMAC, are the two classics."""
    head = b64(json.dumps({"alg": algorithm, "kid": IDP.kid, "typ": "JWT"}).encode())
    message = f"{head}.{b64(json.dumps(IDP.claims()).encode())}"
    secret = public_pem(IDP.key).encode()
    for signature in (b"\0" * 64, hmac.new(secret, message.encode(), hashlib.sha256).digest()):
        assert refusal(f"{message}.{b64(signature)}")


@pytest.mark.parametrize(
    "header",
    [
        {"kid": None},
        {"kid": 1},
        {"kid": "unknown"},
        {"kid": ["2026-11"]},
        {"crit": ["exp"]},
        {"b64": False},
        {"b64": True},
    ],
)
def test_a_header_without_its_key_or_with_an_extension_is_refused(header: dict[str, Any]) -> None:
    assert refusal(IDP.signed(json.dumps(IDP.claims()).encode(), **header))


def test_a_key_that_comes_with_the_token_is_not_used() -> None:
    mallory = Provider()
    header = {"jwk": {"kty": "EC"}, "jku": "https://idp.hospital.example/keys", "x5u": "https://x.example"}
    assert read(IDP.signed(json.dumps(IDP.claims()).encode(), **header)).end_user == "dr.lee"
    assert refusal(mallory.signed(json.dumps(mallory.claims()).encode(), **header))


@pytest.mark.parametrize(
    "odd",
    [
        lambda t: "", lambda t: "a.b.c", lambda t: t + ".x", lambda t: t.replace(".", " "), lambda t: f" {t}",
        lambda t: f"{t}\n", lambda t: t.rsplit(".", 1)[0] + ".", lambda t: t.rsplit(".", 1)[0], lambda t: f"Bearer {t}",
        lambda t: "x" * 8000, lambda t: f"{'x' * 3000}.{'y' * 3000}.{'z' * 3000}", lambda t: t + "=", lambda t: "\u00e9" * 50,
    ],
)  # fmt: skip
def test_what_does_not_look_like_a_token_is_refused(odd: Callable[[str], str]) -> None:
    assert refusal(odd(IDP.sign()))


def test_it_counts_from_its_beginning_to_its_end_with_half_a_minute_for_clocks() -> None:
    now = datetime.now(UTC)
    token = IDP.sign(iat=int(now.timestamp()), exp=int(now.timestamp()) + 600)
    for seconds, stands in ((-31, False), (-29, True), (0, True), (600, True), (629, True), (631, False)):
        moment = now + timedelta(seconds=seconds)
        if stands:
            assert read(token, now=moment).end_user == "dr.lee"
        else:
            assert refusal(token, now=moment)
    assert "lives longer" in refusal(IDP.sign(iat=int(now.timestamp()), exp=int(now.timestamp()) + 601))


def test_an_app_that_signs_for_itself_vouches_for_nobody_elses_users() -> None:
    own = issuer(IDP, client="ward-7")
    assert read(IDP.sign(), own, client="ward-7").end_user == "dr.lee"
    assert "this client" in refusal(IDP.sign(), own, client="ward-8")


def test_a_token_that_a_provider_of_the_house_made_for_one_app_is_of_no_use_to_another() -> None:
    for said in ({"azp": "ward-8"}, {"azp": None, "client_id": "ward-8"}, {"client_id": "ward-8", "azp": "ward-8"}):
        assert read(IDP.sign(**said), client="ward-8").end_user == "dr.lee"
        assert "azp or client_id" in refusal(IDP.sign(**said), client="ward-7")
    # An issuer of one client vouches to nobody else, so it need not say for whom.
    assert read(IDP.sign(azp=None), issuer(IDP, client="ward-7")).end_user == "dr.lee"


def test_a_remembered_token_of_another_app_is_refused_too() -> None:
    verifier, known, token = Assertions(), {IDP.iss: issuer(IDP)}, IDP.sign()
    assert verifier.read(token, known, client="ward-7", now=datetime.now(UTC)).end_user == "dr.lee"
    with pytest.raises(BadAssertionError):
        verifier.read(token, known, client="ward-8", now=datetime.now(UTC))


def test_an_issuer_ends_at_its_hour() -> None:
    now = datetime.now(UTC)
    ending = issuer(IDP, expires=now)
    assert read(IDP.sign(), ending, now=now - timedelta(seconds=1)).end_user == "dr.lee"
    assert refusal(IDP.sign(), ending, now=now)


def test_a_remembered_token_is_asked_again_whether_its_issuer_and_key_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, token, now = Assertions(), IDP.sign(), datetime.now(UTC)
    known = {IDP.iss: issuer(IDP)}
    assert verifier.read(token, known, client="ward-7", now=now).end_user == "dr.lee"
    with monkeypatch.context() as patch:
        patch.setattr(assertions, "_verify", lambda *_: pytest.fail("verified twice"))
        assert verifier.read(token, known, client="ward-7", now=now).end_user == "dr.lee"
    # The same kid with another key, no key, no issuer, another client, another hour.
    swapped = {IDP.iss: issuer(Provider())}
    keyless = {IDP.iss: issuer(IDP, keys=MappingProxyType({}))}
    owned = {IDP.iss: issuer(IDP, client="ward-8")}
    for registered, moment in (
        (swapped, now),
        (keyless, now),
        ({}, now),
        (owned, now),
        (known, now + timedelta(hours=1)),
    ):
        assert verifier.read(token, known, client="ward-7", now=now).end_user == "dr.lee"
        with pytest.raises(BadAssertionError):
            verifier.read(token, registered, client="ward-7", now=moment)


def test_what_is_remembered_is_bounded_and_a_refused_token_is_not() -> None:
    verifier = Assertions(room=3)
    known = {IDP.iss: issuer(IDP)}
    for number in range(10):
        verifier.read(IDP.sign(f"user-{number}"), known, client="ward-7", now=datetime.now(UTC))
        with pytest.raises(BadAssertionError):
            verifier.read(IDP.sign(f"user-{number}", aud="other"), known, client="ward-7", now=datetime.now(UTC))
    assert sorted(claims.end_user for claims in verifier._known.values()) == ["user-7", "user-8", "user-9"]


SMALL_ORDER = bytes(32)  # y = 0, of order four
WEAK: dict[str, tuple[Callable[[], Any], str]] = {
    "RSA 1024": (lambda: rsa.generate_private_key(65537, 1024), "issuer_key_weak"),  # noqa: S505 - weak is the point
    "RSA with exponent 3": (lambda: rsa.generate_private_key(3, 2048), "issuer_key_weak"),
    "P-384": (lambda: ec.generate_private_key(ec.SECP384R1()), "issuer_key_kind"),
    "secp256k1": (lambda: ec.generate_private_key(ec.SECP256K1()), "issuer_key_kind"),
    "Ed448": (ed448.Ed448PrivateKey.generate, "issuer_key_kind"),
}


@pytest.mark.parametrize(("make", "code"), WEAK.values(), ids=list(WEAK))
def test_a_weak_key_or_one_of_another_kind_is_not_held(make: Callable[[], Any], code: str) -> None:
    with pytest.raises(ClientRefusedError) as refused:
        assertions.load(public_pem(make()))
    assert refused.value.code == code


def test_a_key_that_verifies_signatures_nobody_made_is_not_held() -> None:
    pem = Wrapped(ed25519.Ed25519PublicKey.from_public_bytes(SMALL_ORDER))
    with pytest.raises(ClientRefusedError) as refused:
        assertions.load(public_pem(pem))
    assert refused.value.code == "issuer_key_weak"


class Wrapped:
    """A public key where a private one is expected."""

    def __init__(self, key: ed25519.Ed25519PublicKey) -> None:
        self._key = key

    def public_key(self) -> ed25519.Ed25519PublicKey:
        return self._key


def test_a_private_key_pasted_by_mistake_is_refused_and_not_repeated() -> None:
    pem = IDP.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ClientRefusedError) as refused:
        assertions.load(pem)
    assert refused.value.code == "issuer_key_private"
    assert pem.splitlines()[1] not in refused.value.message


@pytest.mark.parametrize("text", ["", "x", "\u00e9", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ClientRefusedError) as refused:
        assertions.load(text)
    assert refused.value.code == "issuer_key_unreadable"
