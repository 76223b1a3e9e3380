"""Sign-in in two steps, password then second factor, and signing out. The one place that makes a session.

- Wrong name, wrong password, unknown, disabled and locked get one text, one status and the same work.
- Between the steps the session holds a name and a time, and opens nothing; it is given a new id at both steps.
- `next` is a path on this machine or it is the overview.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

import django_otp
from django import forms
from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST
from django_otp.models import Device

from appliance.accounts import selectors as accounts
from appliance.accounts import services as people
from appliance.accounts.errors import SignInRefusedError
from appliance.accounts.services import attempts, codes, passkeys, resets, sessions
from appliance.alerts import services as alerting
from appliance.alerts.rules import Severity
from appliance.audit import services as audit
from appliance.audit.actions import Action
from console import access, second_factor

_PENDING = "pending_person"
_PENDING_AT = "pending_since"
PENDING_S = 5 * 60
_BACKEND = "appliance.accounts.backends.PersonBackend"

ENDED_SAYS = {
    "idle": "You were signed out after 15 minutes without an act. Sign in to go on.",
    "absolute": "You were signed out after 12 hours. Sign in to go on.",
    "clock": "You were signed out because this machine's clock was set back.",
    "agent": "You were signed out because this session was used from another browser.",
    "everywhere": "You are signed out here and everywhere else.",
    "roles": "Your roles were changed. Sign in to work with the new ones.",
}


_CODE: dict[str, Any] = {
    "max_length": 64,
    "strip": False,
    "widget": forms.TextInput(attrs={"autocomplete": "off", "inputmode": "numeric", "class": "code"}),
}


class PasswordForm(forms.Form):
    """Step one."""

    username = forms.CharField(
        label="Name",
        max_length=150,
        strip=False,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none"}),
    )
    password = forms.CharField(
        label="Password",
        max_length=1024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class ClockForm(forms.Form):
    """Two codes in a row, as they are shown one after the other."""

    first = forms.CharField(label="The code it shows now", **_CODE)
    second = forms.CharField(label="The code after that one", **_CODE)


@sensitive_post_parameters("password")
@access.public("the first step of sign-in")
@require_http_methods(["GET", "POST"])
@access.takes(PasswordForm, "next")
def password(request: HttpRequest) -> HttpResponse:
    """Step one: name and password."""
    wanted = access.local_path(request.POST.get("next", "") or request.GET.get("next", ""))
    if access.is_signed_in(request):
        return redirect(wanted)
    form = PasswordForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["username"]
        try:
            attempts.check_network(source=access.source(request))
            person = people.check_password(actor=name, password=form.cleaned_data["password"])
        except (SignInRefusedError, ValueError) as refusal:
            # A NUL in the name is a ValueError of the database driver's: the same refusal as any other wrong name.
            _record_refusal(request, name, "password")
            form.add_error(None, str(refusal) if isinstance(refusal, SignInRefusedError) else str(SignInRefusedError()))
        else:
            pend(request, person.get_username())
            return redirect(_with_next("sign-in-code", wanted))
    ended = ENDED_SAYS.get(request.session.pop(access.ENDED, ""), "")
    context = {"form": form, "next": wanted, "ended": ended}
    return render(request, "console/sign_in/password.html", context, status=403 if form.errors else 200)


@sensitive_post_parameters("code", "answer")
@access.public("the second step of sign-in")
@require_http_methods(["GET", "POST"])
@access.takes(second_factor.CodeForm, second_factor.KeyForm, "next")
def code(request: HttpRequest) -> HttpResponse:
    """Step two: a security key, a one-time code or a recovery code; only now is anybody signed in."""
    wanted = access.local_path(request.POST.get("next", "") or request.GET.get("next", ""))
    if access.is_signed_in(request):
        return redirect(wanted)
    name = pending(request)
    if not name:
        request.session.flush()
        return redirect(_with_next("sign-in", wanted))
    prompt = second_factor.Prompt(request, name=name, purpose=passkeys.SIGN_IN)
    try:
        device = prompt.device()
    except SignInRefusedError:
        _record_refusal(request, name, "key" if prompt.by_key else "code")
        device = None
    if device is not None:
        return _opened(request, device, wanted)
    context = {
        **prompt.context(),
        "next": wanted,
        "person_name": name,
        "clock": _with_next("sign-in-clock", wanted),
    }
    return render(request, "console/sign_in/code.html", context, status=prompt.status)


@sensitive_post_parameters("first", "second")
@access.public("step two for somebody whose generator's clock has run away")
@require_http_methods(["GET", "POST"])
@access.takes(ClockForm, "next")
def clock(request: HttpRequest) -> HttpResponse:
    """Two codes in a row: they find the generator's clock again, and are the second factor."""
    wanted = access.local_path(request.POST.get("next", "") or request.GET.get("next", ""))
    if access.is_signed_in(request):
        return redirect(wanted)
    name = pending(request)
    if not name:
        request.session.flush()
        return redirect(_with_next("sign-in", wanted))
    form = ClockForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            pair = (form.cleaned_data["first"], form.cleaned_data["second"])
            device = codes.resynchronise(actor=name, codes=pair)
        except SignInRefusedError as refusal:
            _record_refusal(request, name, "clock")
            form.add_error(None, str(refusal))
        else:
            access.say(request, access.WELL, "Your generator's clock is known again. Single codes work from now on.")
            return _opened(request, device, wanted)
    context = {"form": form, "next": wanted, "back": _with_next("sign-in-code", wanted)}
    return render(request, "console/sign_in/clock.html", context, status=403 if form.errors else 200)


@access.public("ends whatever session there is, a half-begun one too")
@require_POST
@access.takes()
def sign_out(request: HttpRequest) -> HttpResponse:
    """End this session here and on the machine."""
    if access.is_signed_in(request):
        people.signed_out(actor=access.actor(request))
    auth.logout(request)
    return redirect("sign-in")


def _opened(request: HttpRequest, device: Device, wanted: str) -> HttpResponse:
    """Begin the session, and say what the person must know before anything else."""
    name = str(device.user.get_username())
    _begin(request, device)
    for reset in accounts.resets_untold(name):
        when = timezone.localtime(reset.closed_at or reset.asked_at).strftime("%Y-%m-%d %H:%M")
        access.say(
            request,
            access.DEGRADED,
            f"Your second factors were taken away on {when}: {reset.asked_by} asked ({reset.reason}) and "
            f"{reset.agreed_by} agreed. If you did not want this, tell the security officer now.",
        )
    resets.told(username=name)
    held = accounts.factors(name)
    if device.kind == "recovery_code":
        alerting.open_(
            actor=name,
            key=f"recovery_code.{name}",
            severity=Severity.WARNING,
            title=f"{name} signed in with a recovery code",
            detail=f"{held.recovery_left} are left. If it was not {name}, end their sessions on the staff page.",
        )
        access.say(request, access.DEGRADED, f"That recovery code is used up; {held.recovery_left} are left.")
    if not held.any:
        access.say(
            request, access.FAILED, "You have no second factor of your own. Enrol one now, or you cannot come back."
        )
        return redirect("profile")
    return redirect(wanted)


def pend(request: HttpRequest, name: str) -> None:
    """A new session between the steps, for somebody whose first factor was right. It opens nothing."""
    request.session.flush()
    request.session[_PENDING] = name
    request.session[_PENDING_AT] = time.time()


def pending(request: HttpRequest) -> str:
    """Whose first factor was right in this session, a moment ago; "" for nobody."""
    name, since = request.session.get(_PENDING, ""), request.session.get(_PENDING_AT, 0.0)
    return str(name) if 0 <= time.time() - since <= PENDING_S else ""


def _begin(request: HttpRequest, device: Device) -> None:
    """Make the session: a new id, the device that proved the second factor, and the times it is limited by."""
    person = device.user
    request.session.flush()
    sessions.sweep()
    auth.login(request, person, backend=_BACKEND)
    django_otp.login(request, device)
    now = time.time()
    request.session[access.SIGNED_IN_AT] = now
    request.session[access.SEEN_AT] = now
    request.session[access.FACTOR_AT] = now
    request.session[access.ROLES] = list(person.roles)
    request.session[access.SOURCE] = access.source(request)
    request.session[access.AGENT] = access.agent(request)
    people.signed_in(actor=person.get_username(), source=access.source(request), factors=[device.kind])


def _record_refusal(request: HttpRequest, name: str, step: str) -> None:
    """Record who was tried. A name nobody has is left out: people type passwords into the wrong field."""
    known = "\x00" not in name and accounts.person(name) is not None
    attempts.count_network_failure(source=access.source(request))
    audit.refuse(
        actor=name if known else "unknown",
        action=Action.PERSON_SIGN_IN_REFUSED,
        target="sign-in",
        outcome=f"{step}_refused",
        detail={"source": access.source(request), "request_id": access.request_id(request)},
    )


def _with_next(page: str, wanted: str) -> str:
    return reverse(page) + ("" if wanted == reverse("overview") else "?" + urlencode({"next": wanted}))
