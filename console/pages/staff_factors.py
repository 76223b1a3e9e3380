"""One person's second factors and sessions, for those who look after staff; and the act of two that takes factors away."""

from __future__ import annotations

from datetime import timedelta

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts import selectors as accounts
from appliance.accounts.permissions import Permission
from appliance.accounts.services import resets
from console import access, middleware


class ReasonForm(forms.Form):
    """Why; the one concerned reads it."""

    reason = forms.CharField(label="Reason", max_length=200, help_text="The person reads it at their next sign-in.")


@access.requires(Permission.STAFF_VIEW)
@require_GET
def page(request: HttpRequest, username: str) -> HttpResponse:
    """What this person can show, and where they are signed in."""
    person = accounts.person(username)
    if person is None:
        raise Http404
    me, waiting = access.actor(request), accounts.reset_waiting(username)
    may_agree = access.may(request, Permission.STAFF_AGREE) and waiting is not None
    may_ask = access.may(request, Permission.STAFF_MANAGE) and me != username and person.is_active
    context = {
        "person": person,
        "factors": accounts.factors(username),
        "sessions": accounts.sessions(
            username,
            idle=timedelta(seconds=middleware.IDLE_S),
            absolute=timedelta(seconds=middleware.ABSOLUTE_S),
        ),
        "waiting": waiting,
        "may_manage": access.may(request, Permission.STAFF_MANAGE),
        "may_agree": may_agree and waiting is not None and me not in {waiting.asked_by, username},
        "form": ReasonForm() if may_ask and waiting is None else None,
    }
    return render(request, "console/staff/factors.html", context)


@access.requires(Permission.STAFF_MANAGE)
@access.step_up
@require_POST
@access.takes(ReasonForm)
def ask(request: HttpRequest, username: str) -> HttpResponse:
    """The first of two."""
    form = ReasonForm(request.POST)
    if not form.is_valid():
        access.say(request, access.FAILED, "Say why. Nothing was asked for.")
        return redirect("person-factors", username)
    with access.attempt(request, target=f"person:{username}") as tried:
        resets.ask(actor=access.actor(request), username=username, reason=form.cleaned_data["reason"])
    if not tried.refused:
        access.say(
            request, access.WELL, f"Asked. {username} keeps their factors until another person agrees, within a day."
        )
    return redirect("person-factors", username)


@access.requires(Permission.STAFF_AGREE)
@access.step_up
@require_POST
@sensitive_variables("code")
@access.takes()
def agree(request: HttpRequest, username: str) -> HttpResponse:
    """The second of two; the one code that opens the door is shown on this answer and nowhere else."""
    with access.attempt(request, target=f"person:{username}") as tried:
        code = resets.agree(actor=access.actor(request), username=username)
    if tried.refused:
        return redirect("person-factors", username)
    return render(request, "console/staff/reset_done.html", {"username": username, "code": code})


@access.requires(Permission.STAFF_MANAGE)
@require_POST
@access.takes()
def withdraw(request: HttpRequest, username: str) -> HttpResponse:
    """Stop it before it is done."""
    with access.attempt(request, target=f"person:{username}") as tried:
        resets.withdraw(actor=access.actor(request), username=username)
    if not tried.refused:
        access.say(request, access.WELL, f"Stopped. {username} keeps their factors.")
    return redirect("person-factors", username)
