"""Clients: which clinical apps may ask what, and with which keys.

A key's text exists on exactly one answer of this console: it is shown by the request that made it and never stored,
so that page is not a redirect. A token in the form, used up by the first press, keeps a reload from making a second key.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from appliance.accounts.permissions import Permission
from console import access
from inference.clients import selectors as clients
from inference.clients import services as client_services
from inference.clients.errors import ClientNotFoundError
from inference.policy.catalog import TASKS, Lane, Purpose

LANE_SAYS = {
    Lane.STAT: "stat: someone waits at a bedside",
    Lane.INTERACTIVE: "interactive: someone waits at a screen",
    Lane.BATCH: "batch: nobody waits",
}
_ONCE = "issue_once"


class ClientForm(forms.Form):
    """A new client; what is not ticked is not granted."""

    name = forms.RegexField(
        r"^[a-z][a-z0-9-]{1,63}$",
        label="Name",
        help_text="Small letters, digits and dashes; it stands in every record, such as ward-7.",
        error_messages={"invalid": "Use 2 to 64 of a-z, 0-9 and -, beginning with a letter."},
    )
    title = forms.CharField(label="Title", max_length=120, help_text="What people call the app.")
    owner = forms.CharField(label="Owner", max_length=120, help_text="The person or department who answers for it.")
    tasks = forms.MultipleChoiceField(
        label="Tasks", choices=[(task.id, task.title) for task in TASKS.values()], widget=forms.CheckboxSelectMultiple
    )
    purposes = forms.MultipleChoiceField(
        label="Purposes",
        choices=[(item.value, f"{item.value}: {item.label}") for item in Purpose],
        widget=forms.CheckboxSelectMultiple,
    )
    lane = forms.ChoiceField(
        label="Lane", choices=[(lane.value, LANE_SAYS[lane]) for lane in Lane], initial=Lane.INTERACTIVE
    )
    phi = forms.BooleanField(
        label="May send patient data (PHI)",
        required=False,
        initial=True,
        help_text="Without this right only records marked synthetic or de-identified are answered.",
    )


class KeyForm(forms.Form):
    """How long the new key lives."""

    days = forms.TypedChoiceField(
        label="Valid for",
        coerce=int,
        choices=[(90, "90 days"), (180, "180 days"), (365, "1 year"), (730, "2 years")],
        initial=365,
    )


@access.requires(Permission.CLIENT_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Every client, by name."""
    context = {"clients": clients.clients(), "may_manage": access.may(request, Permission.CLIENT_MANAGE)}
    return render(request, "console/clients/list.html", context)


@access.requires(Permission.CLIENT_MANAGE)
@require_http_methods(["GET", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    """Register an app with what it may ask for."""
    form = ClientForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["name"]
        with access.attempt(request, target=f"client:{name}") as tried:
            client_services.create_client(actor=access.actor(request), **form.cleaned_data)
        if not tried.refused:
            access.say(request, access.WELL, f"{name} is registered. It can ask once it has a key.")
            return redirect("client", name)
    return render(request, "console/clients/new.html", {"form": form})


@access.requires(Permission.CLIENT_VIEW)
@require_GET
def detail(request: HttpRequest, name: str) -> HttpResponse:
    """One client: its rights and its keys."""
    return render(request, "console/clients/detail.html", _detail(request, name))


@access.requires(Permission.CLIENT_MANAGE)
@require_POST
def issue(request: HttpRequest, name: str) -> HttpResponse:
    """A new key, shown on this answer and nowhere else."""
    form = KeyForm(request.POST)
    # Used up before the key is made: a reload of the answer must not make another.
    expected, given = request.session.pop(_ONCE, ""), request.POST.get("once", "")
    if not form.is_valid() or not expected or not constant_time_compare(expected, given):
        access.say(request, access.DEGRADED, "That form was already used or is old. No key was made by this press.")
        return redirect("client", name)
    with access.attempt(request, target=f"client:{name}") as tried:
        issued = client_services.issue_key(
            actor=access.actor(request), client=name, life=timedelta(days=form.cleaned_data["days"])
        )
    if tried.refused:
        return redirect("client", name)
    return render(request, "console/clients/issued.html", {"issued": issued})


@access.requires(Permission.CLIENT_MANAGE)
@require_POST
def revoke(request: HttpRequest, name: str, prefix: str) -> HttpResponse:
    """End a key now; running answers under it stop within seconds."""
    with access.attempt(request, target=f"key:{prefix}") as tried:
        client_services.revoke_key(actor=access.actor(request), prefix=prefix)
    if not tried.refused:
        access.say(
            request, access.WELL, f"Key {prefix} is revoked. It is refused within seconds, and running answers stop."
        )
    return redirect("client", name)


@access.requires(Permission.CLIENT_MANAGE)
@require_POST
def suspend(request: HttpRequest, name: str) -> HttpResponse:
    """Stop a client, or let it in again."""
    active = request.POST.get("active") == "yes"
    with access.attempt(request, target=f"client:{name}") as tried:
        client_services.set_state(actor=access.actor(request), client=name, active=active)
    if not tried.refused:
        access.say(
            request,
            access.WELL,
            f"{name} may ask again." if active else f"{name} is suspended: all its keys are refused.",
        )
    return redirect("client", name)


def _detail(request: HttpRequest, name: str) -> dict[str, Any]:
    try:
        client = clients.client(name)
    except ClientNotFoundError as error:
        raise Http404 from error
    may_manage = access.may(request, Permission.CLIENT_MANAGE)
    once = ""
    if may_manage:
        once = request.session[_ONCE] = secrets.token_urlsafe(16)
    return {
        "client": client,
        "tasks": [TASKS[task] for task in client.tasks if task in TASKS],
        "purposes": [Purpose(purpose) for purpose in client.purposes],
        "lane_says": LANE_SAYS[Lane(client.lane)],
        "form": KeyForm(),
        "once": once,
        "may_manage": may_manage,
    }
