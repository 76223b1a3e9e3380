"""T02: a key that verifies what nobody signed must not be held, whatever a library thinks of its signatures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import CryptoSigner

from provisioning.bundle import BundleError, initial, keys
from provisioning.bundle.pack import Publisher
from tests.simulators.bundle_maker import EXPIRES, hand_over, signed_by

# The points of order 1, 2, 4 and 8 in their canonical encodings, then two that are not canonical.
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0100000000000000000000000000000000000000000000000000000000000080",
]
MESSAGES = [f"manifest {number}".encode() for number in range(32)]


def forgeries() -> list[tuple[bytes, bytes, bytes]]:
    """Signatures made without any key: R is a small-order point, S is zero."""
    points = [bytes.fromhex(point) for point in SMALL_ORDER]
    return [(key, r + bytes(32), message) for key in points for r in points for message in MESSAGES]


def test_forged_signatures_under_small_order_keys_are_refused_although_cryptography_takes_some() -> None:
    taken = 0
    for key, signature, message in forgeries():
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            continue
        taken += 1
    assert taken > 0, "the library no longer accepts forgeries: this test can no longer fail"
    assert not any(keys.verifies(key, signature.hex(), message) for key, signature, message in forgeries())


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_a_small_order_key_is_refused_when_it_is_loaded(key: str) -> None:
    with pytest.raises(BundleError) as caught:
        keys.PublisherKey(bytes.fromhex(key))
    assert caught.value.code == "trust_store_invalid"


@pytest.mark.parametrize(
    "key",
    [
        {"keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": {"public": "0" * 64}},
        {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "AB" * 32}},
        {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "ab" * 31}},
        {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "ab" * 32, "also": 1}},
        {"keytype": "ed25519", "scheme": "ed25519"},
        {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": 1}},
    ],
)
def test_a_key_written_in_any_other_way_is_refused(key: dict[str, object]) -> None:
    with pytest.raises(BundleError) as caught:
        keys.parse(key)
    assert caught.value.code == "trust_store_invalid"


def test_a_good_key_is_taken_and_its_id_is_the_one_every_tuf_client_computes() -> None:
    publisher = Publisher.generate("p")
    assert publisher.key.keyid == CryptoSigner(publisher.private).public_key.keyid
    assert keys.verifies(publisher.key.raw, publisher.private.sign(b"x").hex(), b"x")
    assert not keys.verifies(publisher.key.raw, publisher.private.sign(b"x").hex(), b"y")


def test_a_trusted_root_with_a_small_order_key_stops_everything(tmp_path: object) -> None:
    people = [Publisher.generate("one"), Publisher.generate("two")]
    zero = keys.key_id(bytes(32))
    root: dict[str, Any] = {
        "_type": "root",
        "version": 1,
        "spec_version": "1.0.31",
        "expires": EXPIRES.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "consistent_snapshot": False,
        "keys": {},
        "roles": {role: {"keyids": [], "threshold": 2} for role in ("root", "targets", "snapshot", "timestamp")},
    }
    hand_over(root, ("root", "targets", "snapshot", "timestamp"), people)
    assert initial(json.dumps(signed_by(people, root)).encode()).targets_version == 0
    root["keys"][zero] = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00" * 32}}
    root["roles"]["targets"]["keyids"].append(zero)
    with pytest.raises(BundleError) as caught:
        initial(json.dumps(signed_by(people, root)).encode())
    assert caught.value.code == "trust_store_invalid"
