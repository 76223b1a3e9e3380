"""What every response carries, and how long a session may live. Decides nothing about who may open what (see `access`).

- A fresh request id on every request; a caller's own is never taken, so nobody can write into our log through it.
- A policy under which the browser loads only our own files, runs no inline script or style and frames nothing.
- A session ends after 15 minutes without an act and after 12 hours whatever happens. Live parts do not count as acts:
  an open overview on an unattended screen must not keep somebody signed in.
- A session goes on only in the browser that it began in; elsewhere it ends, and that is recorded.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from django.contrib import auth
from django.http import HttpRequest, HttpResponse

from appliance.audit import services as audit
from appliance.audit.actions import Action
from console import access

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with it browsers send `Origin: null` with our own forms, which the CSRF check must refuse.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
}

IDLE_S = 15 * 60
ABSOLUTE_S = 12 * 3600
# Written at most this often, so that a page view is not a database write each time.
_SEEN_STEP_S = 30
# A clock set back further than this would stretch every limit below: the session ends instead.
_CLOCK_SLACK_S = 60

Handler = Callable[[HttpRequest], HttpResponse]


class SecurityHeaders:
    """Names the request and sets the headers, on every answer, refusals included."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer with our headers; each is set, not defaulted, so no page can loosen one."""
        request.request_id = uuid.uuid4().hex  # type: ignore[attr-defined]  # read by access.request_id
        response = self.get_response(request)
        for name, value in HEADERS.items():
            response[name] = value
        response["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]  # as above
        return response


class SessionLimits:
    """Ends sessions that are idle, too old, or whose times make no sense."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Sign the person out before the page runs when the session has outlived its limits."""
        if request.user.is_authenticated:
            ended = expired(
                now=time.time(),
                began=request.session.get(access.SIGNED_IN_AT),
                seen=request.session.get(access.SEEN_AT),
            )
            # Whoever's duties changed shows both factors again under the new ones (BAD_INPUTS.md 113).
            if not ended and request.session.get(access.ROLES) != list(request.user.roles):
                ended = "roles"
            if not ended and request.session.get(access.AGENT, "") != access.agent(request):
                ended = "agent"
                _record_other_browser(request)
            if ended:
                auth.logout(request)
                request.session[access.ENDED] = ended
            elif "HX-Request" not in request.headers:
                now = time.time()
                if now - request.session[access.SEEN_AT] >= _SEEN_STEP_S:
                    request.session[access.SEEN_AT] = now
        return self.get_response(request)


def _record_other_browser(request: HttpRequest) -> None:
    audit.refuse(
        actor=str(request.user.get_username()),
        action=Action.SESSION_REFUSED,
        target=f"session:{access.row_key(request)[:12]}",
        outcome="other_browser",
        detail={"source": access.source(request), "request_id": access.request_id(request)},
    )


def expired(*, now: float, began: float | None, seen: float | None) -> str:
    """Why this session is over, or nothing. A session without its times is over."""
    if began is None or seen is None:
        return "unknown"
    if now < seen - _CLOCK_SLACK_S:
        return "clock"
    if now - seen > IDLE_S:
        return "idle"
    if now - began > ABSOLUTE_S:
        return "absolute"
    return ""
