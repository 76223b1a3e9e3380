"""Who may open a page, and what happens when something is refused.

Decides that no page is shown without both factors and the page's permission, and that every refusal leaves a record.
Leaves to `appliance.accounts` which role grants what, and to each app's rules who may do an act to a given row.

- Every view is marked: `@requires(Permission.X)`, `@signed_in_only` for a person's own pages, or `@public(why)`.
- `@step_up` below it, for an act that somebody else at an open screen must not do: a second factor of the last five minutes.
- A page that shows patients' text says so as well: `@requires(Permission.X, patients=True)` asks the person's own right.
- A form holds the fields its page names in `@takes` and no other: nothing is set by naming it (BAD_INPUTS.md 145).
- Refusals are recorded after the refused act was rolled back, in a transaction of their own.
- An act is tried inside `attempt`: a refusal becomes one sentence with its code and the request id, never a 500.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from appliance.accounts import selectors as accounts
from appliance.accounts import sessions
from appliance.accounts.errors import AccountError
from appliance.accounts.permissions import Permission
from appliance.alerts.errors import AlertError
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.changes.errors import ChangeError
from appliance.emergency.errors import EmergencyError
from appliance.reviews.errors import ReviewError
from console.pages import errors
from inference.clients.errors import ClientError
from inference.queue.errors import QueueError
from inference.releases.errors import ReleaseError
from inference.telemetry.errors import TelemetryError

SIGNED_IN_AT = sessions.BEGAN
SEEN_AT = sessions.SEEN
SOURCE = sessions.SOURCE
AGENT = sessions.AGENT
ROLES = "roles"
ENDED = "ended"
FACTOR_AT = "factor_at"
STEP_UP_S = 5 * 60

_READING = frozenset({"GET", "HEAD"})

WELL, DEGRADED, FAILED = "well", "degraded", "failed"
REFUSALS = (
    AccountError,
    AlertError,
    ChangeError,
    ClientError,
    EmergencyError,
    QueueError,
    ReleaseError,
    ReviewError,
    TelemetryError,
)

_FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})

View = TypeVar("View", bound=Callable[..., HttpResponse])


def is_signed_in(request: HttpRequest) -> bool:
    """Both factors were shown in this session. A password alone is nobody."""
    user = getattr(request, "user", None)
    return bool(user is not None and user.is_authenticated and user.is_verified())


def actor(request: HttpRequest) -> str:
    """The name services record; only inside a page that requires sign-in."""
    if not is_signed_in(request):
        raise RuntimeError("an act needs somebody who signed in with both factors")
    return str(request.user.get_username())


def display_name(request: HttpRequest) -> str:
    """The name a page prints."""
    return str(getattr(request.user, "display_name", "") or request.user.get_username())


def roles(request: HttpRequest) -> frozenset[str]:
    """The roles of whoever signed in; none before both factors."""
    return frozenset(request.user.roles) if is_signed_in(request) else frozenset()  # type: ignore[union-attr]  # as in `may`


def may(request: HttpRequest, permission: Permission) -> bool:
    """Whether this person holds the permission now; roles are read on every request, never from the session."""
    return is_signed_in(request) and bool(request.user.may(permission))  # type: ignore[union-attr]  # a Person once signed in


def may_see_patients(request: HttpRequest) -> bool:
    """Whether this person may be shown patients' text; no permission says so, and this opens no page."""
    return is_signed_in(request) and bool(request.user.may_see_patients)  # type: ignore[union-attr]  # as in `may`


def requires(permission: Permission, *, patients: bool = False) -> Callable[[View], View]:
    """Show the page only to people with both factors, this permission, and, for patients' text, that right too."""

    def allowed(request: HttpRequest) -> bool:
        return may(request, permission) and (not patients or may_see_patients(request))

    guard = _guard(permission, allowed)

    def decorate(view: View) -> View:
        guarded = guard(view)
        guarded.patients = patients  # type: ignore[attr-defined]  # read by the test of the whole list
        return guarded

    return decorate


def signed_in_only(view: View) -> View:
    """A page about the person themselves: both factors, no permission."""
    return _guard("own", is_signed_in)(view)


def public(why: str) -> Callable[[View], View]:
    """A page anybody on the network may open; the reason is read by the test of the whole list."""

    def mark(view: View) -> View:
        view.permission = None  # type: ignore[attr-defined]  # read by the architecture test
        view.public = why  # type: ignore[attr-defined]  # as above
        return view

    return mark


def _guard(permission: Permission | str, allowed: Callable[[HttpRequest], bool]) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not is_signed_in(request):
                return _to_sign_in(request)
            if not allowed(request):
                audit.refuse(
                    actor=actor(request),
                    target=f"{request.method} {request.path}"[:200],
                    outcome="permission_missing",
                    detail={"permission": str(permission), "request_id": request_id(request)},
                )
                return errors.forbidden(request)
            return view(request, *args, **kwargs)

        guarded.permission = permission  # type: ignore[attr-defined]  # read by navigation and the architecture test
        return guarded  # type: ignore[return-value]  # wraps() keeps the signature, which mypy cannot see

    return decorate


def step_up(view: View) -> View:
    """Below `requires`: the page and the act need a second factor that was shown in the last five minutes."""
    return _fresh(view, needs=lambda _: True)


def step_up_to_post(view: View) -> View:
    """The same for a page that anybody with its permission may read, and that acts when it is posted."""
    return _fresh(view, needs=lambda request: request.method not in _READING)


def step_up_to_enrol(view: View) -> View:
    """The same for adding a factor, except for somebody who has none to show: after a reset, or on the last code."""
    return _fresh(view, needs=lambda request: accounts.factors(actor(request)).any)


def _fresh(view: View, *, needs: Callable[[HttpRequest], bool]) -> View:
    @wraps(view)
    def fresh(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if is_fresh(request) or not needs(request):
            return view(request, *args, **kwargs)
        # Nothing that was posted is kept or posted again: the person comes back to the page and presses once more.
        reading = request.method in _READING
        asked = {"next": request.get_full_path()} if reading else {"next": _came_from(request), "again": "1"}
        return HttpResponseRedirect(reverse("step-up") + "?" + urlencode(asked))

    fresh.stepped_up = True  # type: ignore[attr-defined]  # read by the test of what needs it
    return fresh  # type: ignore[return-value]  # wraps() keeps the signature, which mypy cannot see


def is_fresh(request: HttpRequest) -> bool:
    """Whether a second factor was shown in this session within the last five minutes."""
    shown = request.session.get(FACTOR_AT)
    # A clock set back makes nothing fresher.
    return shown is not None and 0 <= time.time() - shown <= STEP_UP_S


def row_key(request: HttpRequest) -> str:
    """The name of this session's row; it opens nothing."""
    return sessions.row_key(request.session.session_key or "")


def factor(request: HttpRequest) -> str:
    """The kind of factor that opened this session; only inside a page that requires sign-in."""
    return str(request.user.otp_device.kind)  # type: ignore[union-attr]  # a verified Person has one


def source(request: HttpRequest) -> str:
    """The address the request came from, as far as it is known."""
    return str(request.META.get("REMOTE_ADDR", ""))


def agent(request: HttpRequest) -> str:
    """What the browser says it is. A session goes on only in the browser it began in."""
    return str(request.headers.get("User-Agent", ""))[:300]


def _came_from(request: HttpRequest) -> str:
    came = urlsplit(request.headers.get("Referer", ""))
    if came.netloc != request.get_host():
        return reverse("overview")
    return local_path(came.path + (f"?{came.query}" if came.query else ""))


def takes(*fields: str | type[forms.BaseForm]) -> Callable[[View], View]:
    """The fields a post to this page may hold, by name or by form; with any other the whole request is refused."""
    known = {"csrfmiddlewaretoken"}
    for field in fields:
        known |= {field} if isinstance(field, str) else set(field.base_fields)  # type: ignore[attr-defined]  # made by forms.Form's metaclass

    def decorate(view: View) -> View:
        @wraps(view)
        def strict(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method == "POST" and _odd_body(request, known):
                # Neither the names nor the values are kept: both are whatever somebody typed.
                audit.refuse(
                    actor=actor(request) if is_signed_in(request) else "unknown",
                    target=f"{request.method} {request.path}"[:200],
                    outcome=errors.UNKNOWN_FIELD.code,
                    detail={"request_id": request_id(request)},
                )
                return errors.unknown_field(request)
            return view(request, *args, **kwargs)

        strict.takes = frozenset(known)  # type: ignore[attr-defined]  # read by the test of the whole list
        return strict  # type: ignore[return-value]  # wraps() keeps the signature, which mypy cannot see

    return decorate


def _odd_body(request: HttpRequest, known: set[str]) -> bool:
    """A field or a file nobody asked for, or a body that is no form at all (JSON, text)."""
    if request.content_type not in _FORMS:
        return bool(request.body)
    return bool(set(request.POST) - known or request.FILES)


def request_id(request: HttpRequest) -> str:
    """The id this request carries in its answer, its records and its refusals."""
    return str(getattr(request, "request_id", ""))


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    """To the sign-in page, and back afterwards where that makes sense."""
    if "HX-Request" in request.headers:
        # A live part must not be replaced by a sign-in form: the browser leaves the page instead.
        response = HttpResponse(status=401)
        response["HX-Redirect"] = reverse("sign-in")
        return response
    there = reverse("sign-in")
    # Coming back is only for pages that can be opened; a form that was posted is not posted again.
    if request.method == "GET" and request.path != "/":
        there += "?" + urlencode({"next": request.get_full_path()})
    return HttpResponseRedirect(there)


def local_path(wanted: str) -> str:
    """The page to go to after sign-in, or the overview for anything that is not plainly a path of ours."""
    plain = wanted.startswith("/") and wanted.isprintable() and "\\" not in wanted and not urlsplit(wanted).netloc
    if plain and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None):
        return wanted
    return reverse("overview")


@dataclass
class Attempt:
    """How an act ended: refused or not, and with which code."""

    code: str = ""

    @property
    def refused(self) -> bool:
        """Whether nothing was changed."""
        return bool(self.code)


@contextmanager
def attempt(request: HttpRequest, *, target: str, action: Action = Action.REFUSED) -> Iterator[Attempt]:
    """Try an act. A refusal is recorded and shown; anything else is a bug and stays one."""
    tried = Attempt()
    try:
        yield tried
    except REFUSALS as refusal:
        # The service's transaction is rolled back by now: what is written here outlives it.
        tried.code = str(getattr(refusal, "code", "") or "refused")
        text = str(getattr(refusal, "message", "") or refusal)
        audit.refuse(
            actor=actor(request),
            action=action,
            target=target,
            outcome=tried.code,
            detail={"request_id": request_id(request)},
        )
        say(
            request, FAILED, f"{sentence(text)} Nothing was changed. (Code {tried.code}, request {request_id(request)})"
        )


def say(request: HttpRequest, level: str, text: str) -> None:
    """A notice on the next page; it stays until the page is left."""
    messages.add_message(request, messages.INFO, text, extra_tags=level)


def sentence(text: str) -> str:
    """A refusal's text as a sentence: capital first, full stop last."""
    text = text.strip()
    if not text:
        return "This was refused."
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text + "."
