"""Pages for what could not be shown: each says what happened, what to do, a code, and the request id for the ticket.

They read nothing from the database, because one of the things that may be wrong is the database.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from appliance.audit.errors import AuditUnavailableError


@dataclass(frozen=True)
class Refusal:
    """One such page, in words."""

    title: str
    says: str
    do_next: str
    code: str


BAD_REQUEST = Refusal(
    "This request could not be read",
    "The address or the form was not one this console understands.",
    "Go back and try again from the page itself. If it happens again, give support the request id below.",
    "bad_request",
)
FORBIDDEN = Refusal(
    "Your roles do not include this page",
    "You are signed in, but nothing was shown or changed. This attempt was recorded.",
    "If your work needs this page, ask the person who manages staff to review your roles.",
    "permission_missing",
)
CSRF = Refusal(
    "This form has expired",
    "The form came from an older session or another page, so nothing was changed.",
    "Open the page again and repeat the step.",
    "csrf_failed",
)
UNKNOWN_FIELD = Refusal(
    "This form holds a field that its page does not have",
    "Nothing was changed. This attempt was recorded.",
    "Go back and use the form of the page itself.",
    "unknown_field",
)
FIRST_BOOT_OVER = Refusal(
    "This machine already has its people",
    "They were made by another sitting at the same moment. Nobody was made by this one.",
    "Sign in, or ask the two who did.",
    "first_boot_over",
)
NOT_FOUND = Refusal(
    "There is no such page",
    "The address names nothing on this machine.",
    "Check the address, or start from the overview.",
    "not_found",
)
SERVER_ERROR = Refusal(
    "This page failed",
    "Something in the console broke while it was making the page. What you asked for was not carried out.",
    "Try once more. If it fails again, give support the request id below: it finds the failure in the log.",
    "server_error",
)
UNAVAILABLE = Refusal(
    "The console cannot reach its database",
    "Nothing was changed. Clinical apps get no answers either until it is back, because no answer goes unrecorded.",
    "Wait a minute and try again. If it stays, check the PostgreSQL service on the machine.",
    "database_unavailable",
)


def show(request: HttpRequest, refusal: Refusal, status: int) -> HttpResponse:
    """One refusal page."""
    context = {**asdict(refusal), "request_id": getattr(request, "request_id", ""), "signed_in": refusal is FORBIDDEN}
    return render(request, "console/errors/refusal.html", context, status=status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001 - as below
    """400."""
    return show(request, BAD_REQUEST, 400)


def unknown_field(request: HttpRequest) -> HttpResponse:
    """400: a field nobody asked for."""
    return show(request, UNKNOWN_FIELD, 400)


def first_boot_over(request: HttpRequest) -> HttpResponse:
    """409: somebody else was first."""
    return show(request, FIRST_BOOT_OVER, 409)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001 - Django passes it by name
    """403: signed in, not allowed."""
    return show(request, FORBIDDEN, 403)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001 - Django passes it by name
    """403: the form was not ours, or not of this session."""
    return show(request, CSRF, 403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001 - Django passes it by name
    """404, the same for what does not exist and for what this person may not know exists."""
    return show(request, NOT_FOUND, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    """500, or 503 when it is the database that is away."""
    if isinstance(sys.exc_info()[1], OperationalError | AuditUnavailableError):
        response = show(request, UNAVAILABLE, 503)
        response["Retry-After"] = "10"
        return response
    return show(request, SERVER_ERROR, 500)
