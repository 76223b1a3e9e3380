"""From headers to rights: where the peer is, which certificate it proved, for whom it asks."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from inference.admission.errors import StaleError
from inference.admission.standing import Facts, Standing
from inference.api import auth
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.clients import assertions, keys, rules
from inference.clients.rules import Bounds
from inference.clients.selectors import Held, Snapshot
from inference.policy.catalog import Lane
from inference.policy.rules import Rights
from tests.simulators.identity import Provider, public_pem

KEY = keys.make()
RIGHTS = Rights(
    "ward-7",
    KEY.prefix,
    frozenset({"progress_note", "visit_summary"}),
    frozenset({"TREAT", "HOPERAT"}),
    Lane.INTERACTIVE,
    phi=True,
)
IDP = Provider()
NETWORKS = rules.networks(["10.1.2.0/24", "fd00:1::/64"])


def certificate() -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ward-7")])
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return made.sign(key, SHA256())


CERTIFICATE = certificate()
PEM = CERTIFICATE.public_bytes(Encoding.PEM).decode()
FINGERPRINT = hashlib.sha256(CERTIFICATE.public_bytes(Encoding.DER)).hexdigest()


def standing(**held: Any) -> Standing:
    """What a process knows, without a database."""
    given = {"rights": RIGHTS, "expires": datetime.now(UTC) + timedelta(days=1), "bounds": Bounds()}
    one = Held(**{**given, "assertion_required": False, **held})
    issuer = assertions.Issuer(
        IDP.name, IDP.iss, "", datetime.now(UTC) + timedelta(days=1), {IDP.kid: assertions.load(public_pem(IDP.key))}
    )
    by_hash, by_id = MappingProxyType({KEY.sha256: one}), MappingProxyType({KEY.prefix: one})
    found = Standing("")
    found._facts = Facts(clients=Snapshot(by_hash, by_id, MappingProxyType({IDP.iss: issuer})), serving=None)
    found._taken = float("inf")  # fresh for the length of a test
    return found


def rights(here: Standing, *, peer: tuple[Any, ...] | None = ("10.1.2.3", 4711), **headers: str | list[str]) -> Rights:
    """What a request with these headers is given; underscores stand for dashes."""
    listed = [("authorization", f"Bearer {KEY.plaintext}")]
    for name, values in headers.items():
        listed += [(name.replace("_", "-"), value) for value in ([values] if isinstance(values, str) else values)]
    scope = {
        "type": "http", "method": "GET", "path": "/v1/models", "client": peer,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in listed],
    }  # fmt: skip
    exchange = Exchange(scope, lambda: pytest.fail("read"), lambda _: pytest.fail("sent"))
    return auth.admit(exchange, here, auth.authenticate(exchange, here))


def code(here: Standing, **given: Any) -> str:
    with pytest.raises(BadRequestError) as refused:
        rights(here, **given)
    return refused.value.code


@pytest.mark.parametrize("address", ["10.1.2.3", "10.1.2.255", "::ffff:10.1.2.3", "fd00:1::7"])
def test_over_tcp_the_peer_is_who_connected(address: str) -> None:
    bound = standing(bounds=Bounds(networks=NETWORKS))
    assert rights(bound, peer=(address, 1)).client == "ward-7"
    assert rights(bound, peer=None, x_isoward_source=address).client == "ward-7"


@pytest.mark.parametrize("address", ["10.1.3.3", "127.0.0.1", "::1", "::ffff:10.1.3.3", "fd00:2::7", "", "/", "10.1.2"])
def test_another_address_or_none_is_refused(address: str) -> None:
    bound = standing(bounds=Bounds(networks=NETWORKS))
    assert code(bound, peer=(address, 1)) == "source_not_allowed"
    assert code(bound, peer=None, x_isoward_source=address) == "source_not_allowed"
    assert code(bound, peer=None) == "source_not_allowed"


def test_over_tcp_nobody_may_say_that_they_are_somewhere_else() -> None:
    bound = standing(bounds=Bounds(networks=NETWORKS))
    said = {
        "x_isoward_source": "10.1.2.3",
        "x_forwarded_for": "10.1.2.3",
        "x_real_ip": "10.1.2.3",
        "forwarded": "for=10.1.2.3",
    }
    assert code(bound, peer=("10.9.9.9", 1), **said) == "source_not_allowed"
    assert code(bound, peer=None, x_forwarded_for="10.1.2.3", x_real_ip="10.1.2.3") == "source_not_allowed"
    assert code(bound, peer=None, x_isoward_source=["10.1.2.3", "10.1.2.3"]) == "source_not_allowed"


def test_a_socket_that_somebody_bound_to_a_name_is_no_place() -> None:
    """gunicorn shows a named unix peer as the first two letters of its name."""
    assert code(standing(bounds=Bounds(networks=NETWORKS)), peer=("/", "t")) == "source_not_allowed"


def test_a_certificate_is_believed_from_nginx_and_compared_whole() -> None:
    bound = standing(bounds=Bounds(certificate=FINGERPRINT))
    assert rights(bound, peer=None, x_isoward_client_cert=quote(PEM)).client == "ward-7"
    other = certificate().public_bytes(Encoding.PEM).decode()
    flipped = base64.b64encode(b"x" + CERTIFICATE.public_bytes(Encoding.DER)[1:]).decode()
    for shown in (
        quote(other), quote(PEM + other), quote(other + PEM), FINGERPRINT, "", "%", quote(PEM)[:-40], PEM[:40], "\u00e9",
        quote(f"-----BEGIN CERTIFICATE-----\n{flipped}\n-----END CERTIFICATE-----\n"),
        quote("-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n"),
    ):  # fmt: skip
        assert code(bound, peer=None, x_isoward_client_cert=shown) == "client_certificate_required"
    assert code(bound, peer=None, x_isoward_client_cert=[quote(PEM)] * 2) == "client_certificate_required"
    assert code(bound, peer=("10.1.2.3", 1), x_isoward_client_cert=quote(PEM)) == "client_certificate_required"


def test_only_a_right_key_hears_that_its_place_is_wrong() -> None:
    bound = standing(bounds=Bounds(networks=NETWORKS, certificate=FINGERPRINT), assertion_required=True)
    assert code(bound, peer=("10.9.9.9", 1), authorization=f"Bearer {keys.make().plaintext}") == "invalid_api_key"
    gone = standing(expires=datetime.now(UTC), bounds=Bounds(networks=NETWORKS))
    assert code(gone, peer=("10.9.9.9", 1)) == "invalid_api_key"


def test_the_rights_of_a_request_are_those_of_key_and_user() -> None:
    token = IDP.sign("dr.lee", isoward_tasks=["visit_summary", "data_analyst"], isoward_purposes=["TREAT"])
    found = rights(standing(), x_end_user_assertion=token)
    assert found == replace(
        RIGHTS,
        tasks=frozenset({"visit_summary"}),
        purposes=frozenset({"TREAT"}),
        phi=False,
        end_user="dr.lee",
        vouched_by="hospital-idp/2026-11",
    )


def test_a_client_that_must_name_its_user_is_refused_without_one() -> None:
    must = standing(assertion_required=True)
    assert code(must) == "end_user_required"
    assert rights(must, x_end_user_assertion=IDP.sign()).end_user == "dr.lee"
    assert rights(standing()).end_user == ""


def test_a_false_statement_is_refused_whether_or_not_one_was_needed() -> None:
    for required in (True, False):
        here = standing(assertion_required=required)
        for token in ("", "x", IDP.sign(aud="other"), Provider().sign()):
            assert code(here, x_end_user_assertion=token) == "invalid_end_user_assertion"
        assert code(here, x_end_user_assertion=[IDP.sign(), IDP.sign()]) == "invalid_end_user_assertion"


def test_nothing_is_said_of_a_key_while_rights_cannot_be_read() -> None:
    here = standing()
    here._taken = float("-inf")
    with pytest.raises(StaleError):
        rights(here)
