"""The one door to an app's own address: says that work has ended, and never what it was.

Decides which addresses there are at all (an IP literal inside a network and at a port that the site allows: no name is
resolved, no redirect followed), what is said (ids and states), and how it is signed: Standard Webhooks, which the
official client checks with `client.webhooks.unwrap`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

from inference.queue.errors import WebhookError
from provisioning.site_config import Destination

SECRET_BYTES = 32
_TIMEOUT_S = 3.0
_LONGEST_URL = 256
_SECRET = "whsec_"  # noqa: S105 - the word before a secret


@dataclass(frozen=True)
class Target:
    """A checked address."""

    tls: bool
    host: str
    port: int
    path: str


@dataclass(frozen=True)
class Message:
    """What is to be said, once for each subject and state."""

    ref: str
    subject: str
    event: str
    at: datetime
    url: str
    secret: bytes = field(repr=False)

    @property
    def body(self) -> bytes:
        told = {"id": self.ref, "object": "event", "created_at": int(self.at.timestamp()), "type": self.event}
        return json.dumps({**told, "data": {"id": self.subject}}).encode()


def target(url: str, allowed: Iterable[Destination]) -> Target:
    """The address behind a URL; WebhookError unless the site allows it."""
    if not (url.isascii() and url.isprintable() and len(url) <= _LONGEST_URL):
        raise WebhookError("webhook_refused", "a webhook is a short URL in ASCII")
    try:
        parts = urlsplit(url)
        address, port = ip_address(parts.hostname or ""), parts.port
    except ValueError:
        raise WebhookError("webhook_refused", "a webhook names an IP address, and no host name") from None
    if parts.scheme not in {"http", "https"} or parts.username is not None or parts.fragment or " " in url:
        raise WebhookError("webhook_refused", "a webhook is an http or https URL without a user and a fragment")
    port = port or (443 if parts.scheme == "https" else 80)
    if not any(port == to.port and address.version == to.network.version and address in to.network for to in allowed):
        raise WebhookError("webhook_refused", "the site file's [webhooks] does not allow that address and port")
    path = parts.path or "/"
    return Target(parts.scheme == "https", str(address), port, f"{path}?{parts.query}" if parts.query else path)


def shown(secret: bytes) -> str:
    """A secret as its app keeps it."""
    return _SECRET + base64.b64encode(secret).decode()


def headers(message: Message, now: int) -> dict[str, str]:
    """Standard Webhooks: the id, the time and the body are what is signed."""
    signed = f"{message.ref}.{now}.".encode() + message.body
    mark = base64.b64encode(hmac.new(message.secret, signed, hashlib.sha256).digest()).decode()
    return {
        "Content-Type": "application/json",
        "User-Agent": "isoward",
        "webhook-id": message.ref,
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1,{mark}",
    }


def send(message: Message, *, allowed: Iterable[Destination], now: int) -> bool:
    """Whether somebody there took it: a 2xx in time. What else they say is not read."""
    to = target(message.url, allowed)
    wire = (
        http.client.HTTPSConnection(to.host, to.port, timeout=_TIMEOUT_S, context=ssl.create_default_context())
        if to.tls
        else http.client.HTTPConnection(to.host, to.port, timeout=_TIMEOUT_S)
    )
    try:
        wire.request("POST", to.path, body=message.body, headers=headers(message, now))
        return 200 <= wire.getresponse().status < 300
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        wire.close()
