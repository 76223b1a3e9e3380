"""Signed statements of who asks, and the one door to pyjwt: which keys we hold, and what a token proves.

Decides whether a token is a true statement of a registered issuer, for this client, now. What the statement leaves of
the client's rights is `rules.narrow`; that one must be sent is the door's.

- The issuer and the key are looked up by the names in the token; nothing else in its header is used. A key has one
  algorithm, that of its kind, so a token cannot choose how it is verified.
- Claims are read once, strictly, from the bytes that were signed. What is missing, doubled or of another type refuses
  the token; the right to send PHI is missing unless it is there.
- A verified token is remembered until it expires, by its hash. Whether its issuer still stands is asked at every use.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from inference.clients.errors import BadAssertionError, ClientRefusedError
from inference.clients.rules import Narrowing
from provisioning.bundle import strict_json
from provisioning.bundle.errors import BundleError
from provisioning.bundle.keys import check_public

AUDIENCE = "isoward"
LONGEST_LIFE_S = 600
LEEWAY_S = 30
ALGORITHMS = ("ES256", "RS256", "EdDSA")

_LONGEST = 7000  # a header line of ours, and of nginx before us, holds 8 KB
_FORM = re.compile(r"(?:[A-Za-z0-9_-]{2,7000}\.){2}[A-Za-z0-9_-]{2,7000}")
_NAME = re.compile(r"[\x21-\x7e]{1,128}")
_MOST_NAMES = 64
_LIMITS = strict_json.Limits(size=_LONGEST, depth=6, fractions=True)
_LEAST_RSA_BITS, _MOST_RSA_BITS, _LEAST_EXPONENT = 2048, 8192, 65537

Key = EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey


@dataclass(frozen=True)
class PublicKey:
    """A key that passed `load`, and the one algorithm it verifies."""

    algorithm: str
    sha256: str
    key: Key = field(repr=False)


@dataclass(frozen=True)
class Issuer:
    """Who may vouch for users, as of the last snapshot. `client` is empty for a provider that serves every client."""

    name: str
    iss: str
    client: str
    expires: datetime
    keys: Mapping[str, PublicKey]


@dataclass(frozen=True)
class Claims:
    """What a verified token says, and whose word it is."""

    iss: str
    kid: str
    key_sha256: str
    vouched_by: str
    end_user: str
    app: str
    """Which app the statement was made for; empty when it does not say."""
    only: Narrowing
    begins: int
    ends: int


@lru_cache(maxsize=256)
def load(pem: str) -> PublicKey:
    """The key in a PEM text, or ClientRefusedError. The snapshot reads the same texts every two seconds: hence the cache."""
    if "PRIVATE KEY" in pem:
        raise ClientRefusedError("issuer_key_private", "that is a private key: keep it, and register its public half")
    try:
        key = load_pem_public_key(pem.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ClientRefusedError("issuer_key_unreadable", "a key is one PEM block: BEGIN PUBLIC KEY") from error
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    match key:
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return PublicKey("ES256", hashlib.sha256(der).hexdigest(), key)
        case Ed25519PublicKey():
            _check_order(key)
            return PublicKey("EdDSA", hashlib.sha256(der).hexdigest(), key)
        case RSAPublicKey():
            _check_rsa(key)
            return PublicKey("RS256", hashlib.sha256(der).hexdigest(), key)
    raise ClientRefusedError("issuer_key_kind", "a key is P-256, Ed25519, or RSA of 2048 bits or more")


def voucher(issuer: str, kid: str) -> str:
    """How rights name whose word a user's name is."""
    return f"{issuer}/{kid}"


def check_kid(kid: str) -> None:
    if not _NAME.fullmatch(kid):
        raise ClientRefusedError("issuer_key_name", "a key's kid is 1 to 128 printable characters without a space")


class Assertions:
    """One process's verifier, and what it verified already."""

    def __init__(self, room: int = 1024) -> None:
        self._room = room
        self._known: dict[bytes, Claims] = {}

    def read(self, token: str, issuers: Mapping[str, Issuer], *, client: str, now: datetime) -> Claims:
        """What the token says, or BadAssertionError."""
        mark = hashlib.sha256(token.encode("ascii", "replace")).digest()
        claims = self._known.get(mark)
        found = claims or _verify(token, issuers)
        try:
            _judge(found, issuers, client=client, now=now)
        except BadAssertionError:
            self._known.pop(mark, None)
            raise
        if claims is None:
            self._remember(mark, found)
        return found

    def _remember(self, mark: bytes, claims: Claims) -> None:
        # The oldest goes first: it is the nearest to its end, and costs one more verification at worst.
        while len(self._known) >= self._room:
            del self._known[next(iter(self._known))]
        self._known[mark] = claims


def _verify(token: str, issuers: Mapping[str, Issuer]) -> Claims:
    """The signature, by the key it names; then the claims, from the very bytes that were signed."""
    if len(token) > _LONGEST or not _FORM.fullmatch(token):
        raise BadAssertionError("it is not a signed token of three parts")
    jws = PyJWS(algorithms=list(ALGORITHMS))
    try:
        header = jws.get_unverified_header(token)
        unverified = jws.decode_complete(token, options={"verify_signature": False})
    except PyJWTError as error:
        raise BadAssertionError("its header cannot be read") from error
    if "crit" in header or "b64" in header:
        raise BadAssertionError("its header asks for an extension that is not supported here")
    iss, kid = _object(unverified["payload"]).get("iss"), header.get("kid")
    issuer = issuers.get(iss) if isinstance(iss, str) else None
    key = issuer.keys.get(kid) if issuer is not None and isinstance(kid, str) else None
    if issuer is None or key is None:
        raise BadAssertionError("no registered issuer has that iss and kid")
    try:
        payload = jws.decode_complete(token, key=key.key, algorithms=[key.algorithm])["payload"]
    except PyJWTError as error:
        raise BadAssertionError("its signature is not of that issuer's key and its algorithm") from error
    return _claims(_object(payload), issuer, str(kid), key)


def _judge(claims: Claims, issuers: Mapping[str, Issuer], *, client: str, now: datetime) -> None:
    """What can change while a token lives: its issuer, its issuer's keys, and the hour."""
    issuer = issuers.get(claims.iss)
    key = issuer.keys.get(claims.kid) if issuer is not None else None
    if issuer is None or now >= issuer.expires or key is None or key.sha256 != claims.key_sha256:
        raise BadAssertionError("its issuer or its key is no longer registered")
    if issuer.client not in {"", client}:
        raise BadAssertionError("its issuer may not vouch for users of this client")
    if not issuer.client and claims.app != client:
        # Every app's users come with a statement of a provider of the house: one app's must not serve another.
        raise BadAssertionError("its azp or client_id is not this client, and its issuer serves more than one")
    seconds = now.timestamp()
    if seconds < claims.begins - LEEWAY_S:
        raise BadAssertionError("it is not valid yet")
    if seconds >= claims.ends + LEEWAY_S:
        raise BadAssertionError("it has expired")


def _object(payload: bytes) -> dict[str, Any]:
    try:
        value = strict_json.loads(payload, _LIMITS)
    except strict_json.JsonError as error:
        raise BadAssertionError("its claims are not plain JSON with each name once") from error
    if not isinstance(value, dict):
        raise BadAssertionError("its claims are not a JSON object")
    return value


def _claims(said: dict[str, Any], issuer: Issuer, kid: str, key: PublicKey) -> Claims:
    # A token for several audiences could be handed on to us by any of the others.
    if said.get("aud") not in (AUDIENCE, [AUDIENCE]):
        raise BadAssertionError(f"its aud is not {AUDIENCE}, alone")
    issued, ends, begins = _second(said, "iat"), _second(said, "exp"), _second(said, "nbf", default=0)
    if not 0 < ends - issued <= LONGEST_LIFE_S:
        raise BadAssertionError(f"it lives longer than {LONGEST_LIFE_S} seconds from its iat to its exp")
    subject = said.get("sub")
    if not isinstance(subject, str) or not _NAME.fullmatch(subject):
        raise BadAssertionError("its sub is 1 to 128 printable characters without a space")
    phi = said.get("isoward_phi", False)
    if not isinstance(phi, bool):
        raise BadAssertionError("its isoward_phi is true or false")
    only = Narrowing(tasks=_names(said, "isoward_tasks"), purposes=_names(said, "isoward_purposes"), phi=phi)
    return Claims(
        iss=issuer.iss,
        kid=kid,
        key_sha256=key.sha256,
        vouched_by=voucher(issuer.name, kid),
        end_user=subject,
        app=_app(said),
        only=only,
        begins=max(issued, begins),
        ends=ends,
    )


def _app(said: dict[str, Any]) -> str:
    """OpenID's name for who asked for the token (`azp`), or OAuth's (`client_id`); nothing when they disagree."""
    named = [said[name] for name in ("azp", "client_id") if name in said]
    if not all(isinstance(name, str) for name in named):
        raise BadAssertionError("its azp and client_id are texts")
    return named[0] if len(set(named)) == 1 else ""


def _second(said: dict[str, Any], name: str, *, default: int | None = None) -> int:
    value = said.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadAssertionError(f"its {name} is a whole number of seconds")
    return value


def _names(said: dict[str, Any], name: str) -> frozenset[str] | None:
    if name not in said:
        return None
    value = said[name]
    if not isinstance(value, list) or len(value) > _MOST_NAMES or not all(isinstance(item, str) for item in value):
        raise BadAssertionError(f"its {name} is a list of at most {_MOST_NAMES} names")
    return frozenset(value)


def _check_order(key: Ed25519PublicKey) -> None:
    # A key of small order verifies signatures that nobody made (SECURITY.md finding 1).
    try:
        check_public(key.public_bytes_raw())
    except BundleError as error:
        raise ClientRefusedError("issuer_key_weak", "that Ed25519 key verifies signatures nobody made") from error


def _check_rsa(key: RSAPublicKey) -> None:
    # With a small exponent a signature that only looks padded can be a cube; larger keys cost more than they protect.
    if not _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS or key.public_numbers().e < _LEAST_EXPONENT:
        raise ClientRefusedError(
            "issuer_key_weak", f"an RSA key has {_LEAST_RSA_BITS} to {_MOST_RSA_BITS} bits and an exponent of 65537"
        )
