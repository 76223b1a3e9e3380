"""The console as a client of the LAN API, for the playground: a key of its own, one person's, and what comes back.

Decides nothing about who may ask what: the request goes through the API's own door, with its admission, its records and
its receipts, under a client that the hospital registers and grants like any other.

- The key is issued for one session and an hour, without patient data, and for use from this machine alone. Its text is
  kept sealed in the session; the log has it as an act of the person, and each request names the person as its user.
- Each thread that waits for an answer is one the console lacks, so few may wait at once.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from console import access
from inference.clients import selectors as clients
from inference.clients import services as keys
from inference.clients.errors import ClientError, ClientNotFoundError
from inference.clients.rules import Bounds, Narrowing, Scope

CLIENT = "playground"
_KEPT_AS = "playground_key"
_LIFE = timedelta(hours=1)
_MARGIN = timedelta(minutes=5)
_TIMEOUT_S = 120
_KNOWN_WITHIN_S = 3.0
_HERE = tuple(ip_network(name) for name in ("127.0.0.0/8", "::1/128"))
_LONGEST_EVENT = 1_048_576
_room = threading.BoundedSemaphore(2)


@dataclass(frozen=True)
class Text:
    """Some more of the answer."""

    text: str


@dataclass(frozen=True)
class Whole:
    """The answer is whole and on record."""

    receipt: dict[str, Any]
    tokens_in: int
    tokens_out: int
    first_s: float
    total_s: float
    cut: bool


@dataclass(frozen=True)
class Refused:
    """Why there is no answer, or no more of one."""

    code: str
    says: str
    request_id: str = ""


@dataclass(frozen=True)
class Question:
    """What one person tries."""

    task: str
    purpose: str
    content: str = field(repr=False)
    tokens: int = 400


def grants() -> clients.ClientView | None:
    """The client under which the playground asks; None until somebody registers it."""
    try:
        return clients.client(CLIENT)
    except ClientNotFoundError:
        return None


def ask(request: HttpRequest, question: Question) -> Iterator[Text | Whole | Refused]:
    """The answer as it comes; ends with Whole or Refused. Closing it hangs up, and the engine stops."""
    if not _room.acquire(blocking=False):
        yield Refused("playground_busy", "Others are trying something now, and few may at once. Wait a moment.")
        return
    try:
        try:
            key = _key(request)
        except ClientError as refusal:
            yield Refused(str(getattr(refusal, "code", "refused")), access.sentence(str(refusal)))
            return
        yield from _exchange(key, question, user=access.actor(request))
    finally:
        _room.release()


def _exchange(key: str, question: Question, *, user: str) -> Iterator[Text | Whole | Refused]:
    listener = settings.SITE.api
    began = time.monotonic()
    wire = http.client.HTTPConnection(listener.host, listener.port, timeout=_TIMEOUT_S)
    try:
        answer = _send(wire, key, question, user, until=began + _KNOWN_WITHIN_S)
        if answer.status != http.client.OK:
            yield _refusal(answer.read(_LONGEST_EVENT))
            return
        yield from _events(answer, began)
    except TimeoutError:
        yield Refused("playground_timeout", f"Nothing came for {_TIMEOUT_S} seconds. The request was given up.")
    except (OSError, http.client.HTTPException):
        yield Refused("api_unavailable", "The LAN API on this machine does not answer. Apps get no answers either.")
    finally:
        wire.close()


def _send(
    wire: http.client.HTTPConnection, key: str, question: Question, user: str, *, until: float
) -> http.client.HTTPResponse:
    """The head of the answer. A key that was issued a moment ago may not have reached the door yet."""
    body = json.dumps(
        {
            "model": "default",
            "messages": [{"role": "user", "content": question.content}],
            "max_tokens": question.tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": user,
            "metadata": {"task": question.task, "purpose": question.purpose, "data_class": "synthetic"},
        }
    )
    while True:
        wire.request(
            "POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        )
        answer = wire.getresponse()
        if answer.status != http.client.UNAUTHORIZED or time.monotonic() >= until:
            return answer
        answer.read()
        wire.close()
        time.sleep(0.1)


def _events(answer: http.client.HTTPResponse, began: float) -> Iterator[Text | Whole | Refused]:
    first, finish = 0.0, ""
    while line := answer.readline(_LONGEST_EVENT):
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            yield _refused(event["error"])
            return
        for choice in event.get("choices", ()):
            finish = choice.get("finish_reason") or finish
            if text := choice.get("delta", {}).get("content"):
                first = first or time.monotonic() - began
                yield Text(text)
        if "receipt" in event:
            usage = event.get("usage") or {}
            yield Whole(
                receipt=event["receipt"],
                tokens_in=usage.get("prompt_tokens", 0),
                tokens_out=usage.get("completion_tokens", 0),
                first_s=first,
                total_s=time.monotonic() - began,
                cut=finish == "length",
            )
            return
    yield Refused("answer_cut", "The answer broke off before its record was written. It is not whole.")


def _refusal(body: bytes) -> Refused:
    try:
        return _refused(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return Refused("api_unreadable", "The LAN API answered something that is not one of its refusals.")


def _refused(error: dict[str, Any]) -> Refused:
    return Refused(
        str(error.get("code", "refused")),
        access.sentence(str(error.get("message", ""))),
        str(error.get("request_id", "")),
    )


def _key(request: HttpRequest) -> str:
    """The session's key; a new one when there is none, or when the old one is about to expire."""
    name = f"console.session:{request.session.session_key}:{_KEPT_AS}"
    kept = request.session.get(_KEPT_AS)
    if kept and timezone.now() + _MARGIN < datetime.fromisoformat(kept["expires"]):
        known = keys.kept_key(kept["sealed"], name=name)
        if known is not None:
            return known
    scope = Scope(Narrowing(phi=False), Bounds(networks=_HERE))
    issued = keys.issue_key(actor=access.actor(request), client=CLIENT, life=_LIFE, scope=scope)
    request.session[_KEPT_AS] = {
        "sealed": keys.keep_key(issued.plaintext, name=name),
        "expires": issued.expires.isoformat(),
    }
    request.session.save()
    return issued.plaintext
