"""What an app is told at its own address: that work has ended, and never what it was.

Which addresses there are at all, and how a message is signed and sent, is appliance.webhook's.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from appliance import webhook
from appliance.webhook import Target, TargetError, shown
from inference.queue.errors import WebhookError
from provisioning.site_config import Destination

__all__ = ["SECRET_BYTES", "Message", "Target", "send", "shown", "target"]

SECRET_BYTES = 32
_TIMEOUT_S = 3.0


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
    """The address behind a URL; WebhookError unless the site's [webhooks] allows it."""
    try:
        return webhook.target(url, allowed)
    except TargetError as error:
        raise WebhookError("webhook_refused", str(error)) from None


def send(message: Message, *, allowed: Iterable[Destination], now: int) -> bool:
    """Whether somebody there took it: a 2xx in time. What else they say is not read."""
    to = target(message.url, allowed)
    headers = webhook.headers(ref=message.ref, body=message.body, secret=message.secret, now=now)
    try:
        return 200 <= webhook.post(to, body=message.body, headers=headers, within_s=_TIMEOUT_S) < 300
    except (OSError, http.client.HTTPException, ValueError):
        return False
