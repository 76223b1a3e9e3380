"""Publisher keys: which public keys we are willing to hold, and the one place a publisher's signature is checked.

Decides: Ed25519 only, in its one canonical encoding, of full order. Leaves to `trust` which key may sign what.

- A key of small order verifies signatures nobody made: `cryptography` accepts forgeries under eight such encodings,
  the all-zero key among them (SECURITY.md finding 1). libsodium's point check refuses each when the key is loaded.
- A key's id is the digest of the key itself, so one key cannot be counted twice under two ids.
- Signatures are verified by libsodium, not by the library that accepted the forgeries.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature

from provisioning.bundle.errors import BundleError

_HEX_32 = re.compile(r"[0-9a-f]{64}")
_HEX_64 = re.compile(r"[0-9a-f]{128}")
_FIELDS = {"keytype", "scheme", "keyval"}


def check_public(raw: bytes) -> bytes:
    """The same 32 bytes, if they are a point of the large prime order subgroup in canonical encoding."""
    if len(raw) != 32 or not crypto_core_ed25519_is_valid_point(raw):
        raise BundleError("trust_store_invalid", "a listed public key is not a usable Ed25519 key")
    return raw


class PublisherKey(Key):
    """A public key that passed `check_public`, in the form python-tuf asks for."""

    def __init__(self, raw: bytes) -> None:
        self.raw = check_public(raw)
        super().__init__(key_id(raw), "ed25519", "ed25519", {"public": raw.hex()})

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> PublisherKey:
        key = parse(key_dict)
        if key.keyid != keyid:
            raise BundleError("trust_store_invalid", "a key is listed under an id that is not its own")
        return key

    def to_dict(self) -> dict[str, Any]:
        return {"keytype": self.keytype, "scheme": self.scheme, "keyval": dict(self.keyval)}

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        if not verifies(self.raw, signature.signature, data):
            raise UnverifiedSignatureError(f"no valid signature by {self.keyid}")


def parse(value: Mapping[str, Any]) -> PublisherKey:
    """A key as it stands in root metadata; anything but plain Ed25519 is refused."""
    keyval = value.get("keyval")
    public = keyval.get("public") if isinstance(keyval, Mapping) and set(keyval) == {"public"} else None
    plain = set(value) == _FIELDS and value["keytype"] == "ed25519" and value["scheme"] == "ed25519"
    if not plain or not isinstance(public, str) or not _HEX_32.fullmatch(public):
        raise BundleError("trust_store_invalid", "a listed key is not written as a plain Ed25519 key")
    return PublisherKey(bytes.fromhex(public))


def key_id(raw: bytes) -> str:
    """TUF's default key id: SHA-256 over the key's canonical JSON."""
    value = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": raw.hex()}}
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def verifies(raw: bytes, signature_hex: str, data: bytes) -> bool:
    """Whether this key signed these bytes."""
    if not _HEX_64.fullmatch(signature_hex):
        return False
    try:
        VerifyKey(raw).verify(data, bytes.fromhex(signature_hex))
    except BadSignatureError:
        return False
    return True
