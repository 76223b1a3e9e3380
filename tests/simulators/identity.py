"""A hospital's identity provider, or an app that signs for itself: makes keys and assertions, good and bad ones."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from inference.clients import services as clients

Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
MAKES: Mapping[str, Callable[[], Private]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


def public_pem(key: Any) -> str:
    """The public half of a private key."""
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


@dataclass
class Provider:
    """Signs with one key at a time."""

    name: str = "hospital-idp"
    iss: str = "https://idp.hospital.example"
    algorithm: str = "ES256"
    kid: str = "2026-11"
    key: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.key = self.key or MAKES[self.algorithm]()

    def register(self, *, client: str = "") -> Provider:
        """As IT does it: the issuer, then its key."""
        clients.register_issuer(actor="erin", name=self.name, iss=self.iss, client=client)
        clients.add_issuer_key(actor="erin", issuer=self.name, kid=self.kid, pem=public_pem(self.key))
        return self

    def claims(self, sub: str = "dr.lee", **changes: Any) -> dict[str, Any]:
        """Good claims, with some changed; one that is set to None is left out."""
        now = int(time.time())
        said = {"iss": self.iss, "aud": "isoward", "azp": "ward-7", "sub": sub, "iat": now, "exp": now + 300, **changes}
        return {name: value for name, value in said.items() if value is not None}

    def sign(self, sub: str = "dr.lee", *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """An assertion for a user."""
        return self.signed(json.dumps(self.claims(sub, **changes)).encode(), **(headers or {}))

    def signed(self, payload: bytes, **header: Any) -> str:
        """A token over any bytes: pyjwt itself would refuse to make some that a test needs."""
        head = json.dumps({"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **header}).encode()
        message = f"{_b64(head)}.{_b64(payload)}"
        return f"{message}.{_b64(get_default_algorithms()[self.algorithm].sign(message.encode(), self.key))}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
