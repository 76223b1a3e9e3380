"""The house's identity provider (OpenID Connect): where a person is sent, and whether what comes back proves who they are.

Decides nothing about roles (see `rules`) and writes nothing. Authorization code with PKCE (RFC 7636), and no other flow.

- Every address is the site's. Redirects of the provider's own are not followed; an answer that names another issuer
  (RFC 9207) is refused.
- The token is verified with a key from the site's address, by the one algorithm that its key has: `none`, and HMAC with
  a public key as its secret, find nothing to be verified with. Keys that come with the token are never read.
- iss, aud, azp, nonce, iat and exp are held to what was asked for; a claim of another type is no claim.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import jwt
from jwt.exceptions import PyJWTError

from appliance.accounts.errors import ProviderRefusedError
from provisioning.site_oidc import Provider

ALGORITHMS = ("ES256", "RS256")
LEEWAY_S = 30
MOST_AGE_S = 600
MOST_BYTES = 65_536
PREFIX = "oidc:"
_MOST_TEXT = 120


@dataclass(frozen=True)
class Asked:
    """What was asked of the provider, kept by the browser until it comes back."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True)
class Identity:
    """A person as the provider knows them."""

    id: str
    username: str
    display_name: str
    groups: frozenset[str]


def ask() -> Asked:
    """A new question: three values nobody can guess."""
    return Asked(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48))


def address(site: Provider, asked: Asked) -> str:
    """Where the person's browser is sent."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(asked.verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": site.client_id,
        "redirect_uri": site.redirect_uri,
        "scope": "openid profile",
        "state": asked.state,
        "nonce": asked.nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return f"{site.authorization_endpoint}?{urlencode(query)}"


def answer(site: Provider, *, secret: str, asked: Asked, came_back: Mapping[str, str]) -> Identity:
    """Who came back, or ProviderRefusedError with the reason for the record."""
    if not hmac.compare_digest(came_back.get("state", "").encode(), asked.state.encode()):
        raise ProviderRefusedError("state")
    if came_back.get("iss", site.issuer) != site.issuer:
        raise ProviderRefusedError("issuer")
    if "error" in came_back or not came_back.get("code"):
        raise ProviderRefusedError("denied")
    form = {
        "grant_type": "authorization_code",
        "code": came_back["code"],
        "redirect_uri": site.redirect_uri,
        "code_verifier": asked.verifier,
    }
    basic = base64.b64encode(f"{quote(site.client_id, safe='')}:{quote(secret, safe='')}".encode()).decode()
    given = _call(site, "POST", site.token_endpoint, urlencode(form), {"Authorization": f"Basic {basic}"})
    token = given.get("id_token")
    if not isinstance(token, str):
        raise ProviderRefusedError("no_id_token")
    return _identity(site, _claims(site, token, asked.nonce))


def _claims(site: Provider, token: str, nonce: str) -> dict[str, Any]:
    try:
        header = jwt.get_unverified_header(token)
        key, algorithm = _key(_call(site, "GET", site.jwks_uri), header)
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=site.client_id,
            issuer=site.issuer,
            leeway=LEEWAY_S,
            options={"require": ["iss", "aud", "sub", "iat", "exp", "nonce"]},
        )
    except (PyJWTError, ValueError, TypeError) as error:
        raise ProviderRefusedError(type(error).__name__) from error
    if not isinstance(claims["nonce"], str) or not hmac.compare_digest(claims["nonce"].encode(), nonce.encode()):
        raise ProviderRefusedError("nonce")
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else site.client_id) != site.client_id:
        raise ProviderRefusedError("azp")
    if claims["iat"] < time.time() - MOST_AGE_S:
        raise ProviderRefusedError("old")
    return claims


def _key(jwks: Mapping[str, Any], header: Mapping[str, Any]) -> tuple[Any, str]:
    """The one published key of the token's name, and the one algorithm that key has."""
    keys = [key for key in jwks.get("keys", ()) if isinstance(key, dict) and key.get("kid") == header.get("kid")]
    if len(keys) != 1 or not isinstance(header.get("kid"), str):
        raise ProviderRefusedError("key")
    algorithm = {"EC": "ES256", "RSA": "RS256"}.get(str(keys[0].get("kty")), "")
    if algorithm not in ALGORITHMS or header.get("alg") != algorithm or keys[0].get("use", "sig") != "sig":
        raise ProviderRefusedError("algorithm")
    key = jwt.PyJWK(keys[0], algorithm=algorithm).key
    if algorithm == "RS256" and key.key_size < 2048:
        raise ProviderRefusedError("weak_key")
    return key, algorithm


def _identity(site: Provider, claims: Mapping[str, Any]) -> Identity:
    subject, username, groups = claims["sub"], claims.get(site.username_claim), claims.get(site.groups_claim, [])
    if not (isinstance(subject, str) and subject and isinstance(username, str)):
        raise ProviderRefusedError("claims")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise ProviderRefusedError("claims")
    name = claims.get(site.name_claim)
    plain = isinstance(name, str) and name.isprintable()
    return Identity(
        # A provider's `sub` is its own for good and means nothing under another issuer.
        id=PREFIX + hashlib.sha256(f"{site.issuer}\n{subject}".encode()).hexdigest(),
        username=username,
        display_name=str(name)[:_MOST_TEXT] if plain else "",
        groups=frozenset(groups),
    )


def _call(
    site: Provider, method: str, url: str, body: str = "", headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One request to the provider, answered by one JSON object of bounded size within the site's time."""
    parts = urlsplit(url)
    deadline = time.monotonic() + 2 * site.timeout_s
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(site.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=site.timeout_s, context=context
        )
        try:
            kind = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
            connection.request(
                method, parts.path, body or None, {"Accept": "application/json", **kind, **(headers or {})}
            )
            response = connection.getresponse()
            text = b""
            while len(text) <= MOST_BYTES and (piece := response.read1(8192)):
                text += piece
                if time.monotonic() > deadline:
                    raise TimeoutError
            status = response.status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise ProviderRefusedError("unavailable") from error
    if status != http.HTTPStatus.OK or len(text) > MOST_BYTES:
        raise ProviderRefusedError(f"answered_{status}")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ProviderRefusedError("not_json") from error
    if not isinstance(value, dict):
        raise ProviderRefusedError("not_json")
    return value
