"""Profile: what this machine knows of the person who looks, how this session ends, and how the pages look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts import selectors as accounts
from appliance.accounts.permissions import granted
from appliance.accounts.services import resets
from console import access, context, middleware


class ThemeForm(forms.Form):
    """Light, dark, or as the screen is set."""

    theme = forms.ChoiceField(
        label="Appearance",
        required=False,
        choices=[("", "As this screen is set"), ("light", "Light"), ("dark", "Dark")],
    )


FACTOR_WORDS = {
    "recovery_code": "a recovery code",
    "security_key": "a security key",
    "totp": "a one-time code",
}


@access.signed_in_only
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The person's own page."""
    person = accounts.person(access.actor(request))
    began = datetime.fromtimestamp(request.session[access.SIGNED_IN_AT], tz=UTC)
    shown = {
        "person": person,
        "permissions": sorted(granted(access.roles(request))),
        "began": began,
        "ends": began + timedelta(seconds=middleware.ABSOLUTE_S),
        "idle_minutes": middleware.IDLE_S // 60,
        "factors": accounts.factors(access.actor(request)),
        "sessions": accounts.sessions(
            access.actor(request),
            idle=timedelta(seconds=middleware.IDLE_S),
            absolute=timedelta(seconds=middleware.ABSOLUTE_S),
        ),
        "waiting": accounts.reset_waiting(access.actor(request)) if person and person.reset_waiting else None,
        "this_session": access.row_key(request),
        "factor_words": FACTOR_WORDS[access.factor(request)],
        "form": ThemeForm(initial={"theme": context.Shell(request).theme or "auto"}),
    }
    return render(request, "console/profile/page.html", shown)


@access.signed_in_only
@require_POST
@access.takes(ThemeForm)
def theme(request: HttpRequest) -> HttpResponse:
    """Remember the look in this browser; it says nothing about the person, so it needs no row."""
    form = ThemeForm(request.POST)
    response = redirect("profile")
    if form.is_valid() and form.cleaned_data["theme"] in context.THEMES:
        response.set_cookie(
            context.THEME_COOKIE,
            form.cleaned_data["theme"],
            max_age=timedelta(days=365),
            httponly=True,
            samesite="Strict",
            secure=settings.SESSION_COOKIE_SECURE,
        )
    else:
        response.delete_cookie(context.THEME_COOKIE, samesite="Strict")
    return response


@access.signed_in_only
@require_POST
@access.takes()
def stop_reset(request: HttpRequest) -> HttpResponse:
    """Keep one's own factors, whoever asked to take them away."""
    me = access.actor(request)
    with access.attempt(request, target=f"person:{me}") as tried:
        resets.withdraw(actor=me, username=me)
    if not tried.refused:
        access.say(request, access.WELL, "Stopped. You keep your second factors.")
    return redirect("profile")
