"""From the headers of a request to its rights: key ∩ user, and only from where the key may be used.

Two steps, in this order. `authenticate` asks whether the key is right, with one text and one code for every way to be
wrong. Only who passed it hears from `admit` that the place, the certificate or the user is not.

- Over TCP the peer is who connected, and the headers of a proxy are ignored: anybody could write them.
- Over our unix socket, which only nginx can open, they are nginx's: it sets them for every request, or leaves them out.
- What a key demands and nobody can prove is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote

from inference.admission.standing import Standing
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.clients import rules
from inference.clients.errors import BadAssertionError
from inference.clients.selectors import Held
from inference.policy.rules import Rights

_BEARER = re.compile(r"Bearer ([\x21-\x7e]{1,128})")
_PEM = re.compile(r"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]{1,8000})-----END CERTIFICATE-----\s*")
_SOURCE = b"x-isoward-source"
_CERTIFICATE = b"x-isoward-client-cert"
_ASSERTION = b"x-end-user-assertion"


def authenticate(exchange: Exchange, standing: Standing) -> Held:
    """What is behind the key, as of now; StaleError before anything is said about a key."""
    facts = standing.current()
    match = _BEARER.fullmatch(exchange.header(b"authorization") or "")
    held = facts.clients.of_key(match[1], now=datetime.now(UTC)) if match else None
    if held is None:
        raise BadRequestError("invalid_api_key", "send Authorization: Bearer <an API key of this appliance>")
    return held


def admit(exchange: Exchange, standing: Standing, held: Held) -> Rights:
    """The rights of this request: the key's, from here, for the user who is proved to ask."""
    if not rules.within(held.bounds, address=_source(exchange)):
        raise BadRequestError("source_not_allowed", "this key may not be used from this address")
    if held.bounds.certificate and held.bounds.certificate != _certificate(exchange):
        raise BadRequestError("client_certificate_required", "this key needs its client certificate")
    if not exchange.has(_ASSERTION):
        if held.assertion_required:
            raise BadRequestError("end_user_required", "send X-End-User-Assertion: a signed statement of who asks")
        return held.rights
    try:
        # Sent twice is not sent: no question may arise which of the two was meant.
        claims = standing.vouched(exchange.header(_ASSERTION) or "", client=held.rights.client)
    except BadAssertionError as error:
        raise BadRequestError(error.code, f"the end-user assertion is refused: {error.message}") from None
    return replace(rules.narrow(held.rights, claims.only), end_user=claims.end_user, vouched_by=claims.vouched_by)


def _source(exchange: Exchange) -> rules.Address | None:
    """Where the request comes from; None when nobody can say."""
    return _address((exchange.peer[0] if exchange.peer is not None else exchange.header(_SOURCE)) or "")


@lru_cache(maxsize=4096)
def _address(text: str) -> rules.Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A socket that takes both families shows an IPv4 caller as ::ffff:10.1.2.3.
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _certificate(exchange: Exchange) -> str:
    """SHA-256 of the certificate that nginx saw the caller prove; empty when there is none.

    nginx hands on the whole certificate (`$ssl_client_escaped_cert`): its own fingerprint is SHA-1.
    """
    if exchange.peer is not None:
        return ""
    match = _PEM.fullmatch(unquote(exchange.header(_CERTIFICATE) or ""))
    try:
        der = base64.b64decode("".join(match[1].split()), validate=True) if match else b""
    except binascii.Error:
        return ""
    return hashlib.sha256(der).hexdigest() if der else ""
