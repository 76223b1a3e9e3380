"""The sealed account: asked for by one, opened by a second, closed by time, and looked at by somebody else."""

from __future__ import annotations

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts.permissions import Permission
from appliance.accounts.services import sealed
from appliance.emergency import rules
from appliance.emergency import selectors as emergencies
from appliance.emergency import services as emergency
from console import access, second_factor, shown_seed


class AskForm(second_factor.ProofForm):
    """Why, and both factors."""

    reason = forms.CharField(label="Reason", max_length=rules.MOST_TEXT, widget=forms.Textarea(attrs={"rows": 2}))
    field_order = ("reason", "password", "code")


class FindingForm(forms.Form):
    """What the reviewer found."""

    finding = forms.CharField(
        label="What you found", max_length=rules.MOST_TEXT, widget=forms.Textarea(attrs={"rows": 3})
    )


@access.requires(Permission.EMERGENCY_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Whether it is sealed, who may open it, and every time it was."""
    found = emergencies.openings()
    standing = next((one for one in found if one.state in {"asked", "open", "closed"}), None)
    context = {
        "openings": found,
        "standing": standing,
        "named": emergencies.named(),
        "needed": rules.NEEDED,
        "minutes": int(rules.OPEN_FOR.total_seconds() // 60),
        "form": AskForm(),
        "may_open": access.may(request, Permission.EMERGENCY_OPEN),
    }
    return render(request, "console/emergency/list.html", context)


@sensitive_post_parameters("password", "code")
@access.requires(Permission.EMERGENCY_OPEN)
@require_POST
@access.takes(AskForm)
def ask(request: HttpRequest) -> HttpResponse:
    """Ask for it; somebody else must agree."""
    form = AskForm(request.POST)
    if not form.is_valid():
        access.say(
            request, access.FAILED, "A reason, your password and a one-time code are needed. Nothing was asked for."
        )
        return redirect("emergency")
    opening_id = 0
    with access.attempt(request, target="emergency"):
        opening_id = emergency.ask(actor=access.actor(request), **form.cleaned_data)
    return redirect("emergency-opening", opening_id) if opening_id else redirect("emergency")


@access.requires(Permission.EMERGENCY_VIEW)
@require_GET
def detail(request: HttpRequest, opening_id: int) -> HttpResponse:
    """One opening: where it stands, and everything that was done with it."""
    opening = emergencies.opening(opening_id)
    if opening is None:
        raise Http404
    me = access.actor(request)
    acts = emergencies.acts(opening) if access.may(request, Permission.AUDIT_VIEW) else ()
    over = opening.state == "asked" and timezone.now() >= opening.asked_at + rules.ASKED_FOR
    context = {
        "opening": opening,
        "over": over,
        "acts": acts,
        "more": len(acts) == emergencies.MOST_ACTS,
        "may_look": access.may(request, Permission.AUDIT_VIEW),
        "may_agree": opening.state == "asked"
        and not over
        and access.may(request, Permission.EMERGENCY_OPEN)
        and me not in opening.tally.agreed,
        "may_close": opening.state == "open" and access.may(request, Permission.EMERGENCY_OPEN),
        "may_review": opening.state == "closed"
        and access.may(request, Permission.ACCESS_REVIEW)
        and me not in opening.tally.agreed,
        "form": second_factor.ProofForm(),
        "finding": FindingForm(),
    }
    return render(request, "console/emergency/detail.html", context)


@sensitive_post_parameters("password", "code")
@access.requires(Permission.EMERGENCY_OPEN)
@require_POST
@access.takes(second_factor.ProofForm)
def agree(request: HttpRequest, opening_id: int) -> HttpResponse:
    """Agree; the last one is shown how to get in, on this answer and nowhere else."""
    form = second_factor.ProofForm(request.POST)
    if not form.is_valid():
        access.say(request, access.FAILED, "Your password and a one-time code are needed. Nothing was opened.")
        return redirect("emergency-opening", opening_id)
    opened = None
    with access.attempt(request, target=f"emergency:{opening_id}"):
        opened = emergency.agree(actor=access.actor(request), opening_id=opening_id, **form.cleaned_data)
    return _shown(request, opening_id, opened) if opened else redirect("emergency-opening", opening_id)


@access.requires(Permission.EMERGENCY_OPEN)
@require_POST
@access.takes()
def close(request: HttpRequest, opening_id: int) -> HttpResponse:
    """Close it before its time."""
    with access.attempt(request, target=f"emergency:{opening_id}") as tried:
        emergency.close(actor=access.actor(request), opening_id=opening_id)
    if not tried.refused:
        access.say(request, access.WELL, "The account is sealed again. What it did is to be reviewed.")
    return redirect("emergency-opening", opening_id)


@access.requires(Permission.ACCESS_REVIEW)
@require_POST
@access.takes(FindingForm)
def review(request: HttpRequest, opening_id: int) -> HttpResponse:
    """Sign for what was found."""
    form = FindingForm(request.POST)
    if not form.is_valid():
        access.say(request, access.FAILED, "Say what you found. It is not reviewed yet.")
        return redirect("emergency-opening", opening_id)
    with access.attempt(request, target=f"emergency:{opening_id}") as tried:
        emergency.review(actor=access.actor(request), opening_id=opening_id, **form.cleaned_data)
    if not tried.refused:
        access.say(request, access.WELL, "Reviewed. The account can be asked for again.")
    return redirect("emergency-opening", opening_id)


@sensitive_variables("opened", "shown")
def _shown(request: HttpRequest, opening_id: int, opened: sealed.Opened) -> HttpResponse:
    shown = shown_seed.show(opened.seed, name=opened.username)
    context = {"opening_id": opening_id, "opened": opened, "secret": shown.text, "picture": shown.picture}
    return render(request, "console/emergency/opened.html", context)
