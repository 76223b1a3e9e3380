"""How this machine posts to an address on the LAN: which addresses there are, how a message is signed, what counts as taken.

An IP literal inside a network and at a port that the caller allows: no name is resolved and no redirect followed. Signed as
Standard Webhooks say, which the official client checks with `client.webhooks.unwrap`. What is said, and to whom, is the
caller's: inference.queue tells apps that their work has ended, appliance.alerts tells people of faults.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from provisioning.site_config import Destination

_LONGEST_URL = 256
_SECRET = "whsec_"  # noqa: S105 - the word before a secret


class TargetError(Exception):
    """That is no address this machine may speak to."""


@dataclass(frozen=True)
class Target:
    """A checked address."""

    tls: bool
    host: str
    port: int
    path: str


def target(url: str, allowed: Iterable[Destination]) -> Target:
    """The address behind a URL; TargetError unless it is allowed."""
    if not (url.isascii() and url.isprintable() and len(url) <= _LONGEST_URL):
        raise TargetError("a webhook is a short URL in ASCII")
    try:
        parts = urlsplit(url)
        address, port = ip_address(parts.hostname or ""), parts.port
    except ValueError:
        raise TargetError("a webhook names an IP address, and no host name") from None
    if parts.scheme not in {"http", "https"} or parts.username is not None or parts.fragment or " " in url:
        raise TargetError("a webhook is an http or https URL without a user and a fragment")
    port = port or (443 if parts.scheme == "https" else 80)
    if not any(port == to.port and address.version == to.network.version and address in to.network for to in allowed):
        raise TargetError("the site file does not allow that address and port")
    path = parts.path or "/"
    return Target(parts.scheme == "https", str(address), port, f"{path}?{parts.query}" if parts.query else path)


def shown(secret: bytes) -> str:
    """A secret as whoever checks signatures keeps it."""
    return _SECRET + base64.b64encode(secret).decode()


def headers(*, ref: str, body: bytes, secret: bytes, now: int) -> dict[str, str]:
    """Standard Webhooks: the id, the time and the body are what is signed."""
    signed = f"{ref}.{now}.".encode() + body
    mark = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return {
        "Content-Type": "application/json",
        "User-Agent": "isoward",
        "webhook-id": ref,
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1,{mark}",
    }


def post(
    to: Target, *, body: bytes, headers: dict[str, str], within_s: float, trust: ssl.SSLContext | None = None
) -> int:
    """The status of the answer; OSError or HTTPException when there was none. What else they say is not read."""
    wire = (
        http.client.HTTPSConnection(to.host, to.port, timeout=within_s, context=trust or ssl.create_default_context())
        if to.tls
        else http.client.HTTPConnection(to.host, to.port, timeout=within_s)
    )
    try:
        wire.request("POST", to.path, body=body, headers=headers)
        return wire.getresponse().status
    finally:
        wire.close()
