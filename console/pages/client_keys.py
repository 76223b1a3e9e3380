"""Keys of a client: issue one, with less than its client may if that is enough; rotate and revoke.

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
from django.views.decorators.http import require_http_methods, require_POST

from appliance.accounts.permissions import Permission
from console import access
from inference.clients import rules
from inference.clients import selectors as clients
from inference.clients import services as client_services
from inference.clients.errors import ClientNotFoundError, ClientRefusedError
from inference.policy.catalog import TASKS, Feature, Lane

_ONCE = "issue_once"
_LIVES = [(90, "90 days"), (180, "180 days"), (365, "1 year"), (730, "2 years")]
_OVERLAPS = [(0, "not at all"), (1, "1 hour"), (24, "1 day"), (168, "1 week"), (720, "30 days")]


class LifeForm(forms.Form):
    """How long a new key lives."""

    days = forms.TypedChoiceField(label="Valid for", coerce=int, choices=_LIVES, initial=365)


class RotateForm(LifeForm):
    """How long the old key goes on beside it."""

    hours = forms.TypedChoiceField(label="The old key still works for", coerce=int, choices=_OVERLAPS, initial=24)


class KeyForm(LifeForm):
    """A new key, and what it leaves of its client's grants. Nothing ticked and nothing written takes nothing away."""

    tasks = forms.MultipleChoiceField(label="Only these tasks", required=False, widget=forms.CheckboxSelectMultiple)
    purposes = forms.MultipleChoiceField(
        label="Only these purposes", required=False, widget=forms.CheckboxSelectMultiple
    )
    features = forms.MultipleChoiceField(
        label="Only this besides text", required=False, widget=forms.CheckboxSelectMultiple
    )
    tools = forms.MultipleChoiceField(label="Only these tools", required=False, widget=forms.CheckboxSelectMultiple)
    plain = forms.BooleanField(label="Text only: no schemas, no log probabilities, no tools", required=False)
    no_phi = forms.BooleanField(label="No patient data with this key", required=False)
    lane = forms.ChoiceField(label="Lane", required=False)
    models = forms.RegexField(
        r"^[A-Za-z0-9._\s-]*$",
        label="Only these models",
        required=False,
        help_text="Names as in /v1/models, with spaces between.",
    )
    networks = forms.CharField(
        label="Only from these networks",
        required=False,
        widget=forms.Textarea({"rows": 2}),
        help_text="One on each line, such as 10.1.2.0/24 or 10.1.2.3.",
    )
    certificate = forms.CharField(
        label="Only with this client certificate",
        required=False,
        max_length=128,
        help_text="Its SHA-256 fingerprint, as openssl x509 -fingerprint -sha256 prints it.",
    )

    def __init__(self, *args: Any, client: clients.ClientView, **given: Any) -> None:
        super().__init__(*args, **given)
        lanes = [lane.value for lane in Lane]
        slower = lanes[lanes.index(client.lane) + 1 :]
        for name, choices in (
            ("tasks", [(task, TASKS[task].title) for task in client.tasks]),
            ("purposes", [(purpose, purpose) for purpose in client.purposes]),
            ("features", [(feature, feature) for feature in client.features]),
            ("tools", [(tool, tool) for tool in client.tools]),
            ("lane", [("", f"{client.lane}, as its client"), *((lane, lane) for lane in slower)]),
        ):
            self.fields[name].choices = choices  # type: ignore[attr-defined]  # each is a field of choices, see above
            if not choices:
                del self.fields[name]

    def clean_networks(self) -> tuple[rules.Network, ...]:
        try:
            return rules.networks(self.cleaned_data["networks"].splitlines())
        except ClientRefusedError as error:
            raise forms.ValidationError(access.sentence(error.message)) from error

    def scope(self) -> rules.Scope:
        """What the key keeps, once the form is valid."""
        given = self.cleaned_data
        features = [Feature(name) for name in given.get("features", [])]
        only = rules.Narrowing(
            tasks=_only(given["tasks"]),
            purposes=_only(given["purposes"]),
            lane=Lane(given["lane"]) if given["lane"] else None,
            phi=not given["no_phi"],
            models=_only(given["models"].split()),
            features=frozenset() if given["plain"] else frozenset(features) or None,
            tools=frozenset() if given["plain"] else _only(given.get("tools", [])),
        )
        return rules.Scope(only, rules.Bounds(given["networks"], rules.fingerprint(given["certificate"])))


@access.requires(Permission.CLIENT_MANAGE)
@access.step_up
@require_http_methods(["GET", "POST"])
@access.takes(KeyForm, "once")
def issue(request: HttpRequest, name: str) -> HttpResponse:
    """A new key, shown on this answer and nowhere else."""
    client = _client(name)
    form = KeyForm(request.POST or None, client=client)
    if request.method == "POST":
        if not _first_press(request):
            return redirect("client", name)
        if form.is_valid():
            with access.attempt(request, target=f"client:{name}") as tried:
                issued = client_services.issue_key(
                    actor=access.actor(request),
                    client=name,
                    life=timedelta(days=form.cleaned_data["days"]),
                    scope=form.scope(),
                )
            if tried.refused:
                return redirect("client", name)
            return render(request, "console/clients/issued.html", {"issued": issued})
    context = {"client": client, "form": form, "once": once(request)}
    return render(request, "console/clients/new_key.html", context)


@access.requires(Permission.CLIENT_MANAGE)
@access.step_up
@require_http_methods(["GET", "POST"])
@access.takes(RotateForm, "once")
def rotate(request: HttpRequest, name: str, prefix: str) -> HttpResponse:
    """A key for a key: the new one is shown on this answer, the old one goes on for as long as is said."""
    client = _client(name, prefix=prefix)
    form = RotateForm(request.POST or None)
    if request.method == "POST":
        if not _first_press(request):
            return redirect("client", name)
        if form.is_valid():
            with access.attempt(request, target=f"key:{prefix}") as tried:
                issued = client_services.rotate_key(
                    actor=access.actor(request),
                    prefix=prefix,
                    overlap=timedelta(hours=form.cleaned_data["hours"]),
                    life=timedelta(days=form.cleaned_data["days"]),
                )
            if tried.refused:
                return redirect("client", name)
            return render(request, "console/clients/issued.html", {"issued": issued})
    context = {"client": client, "form": form, "once": once(request), "prefix": prefix}
    return render(request, "console/clients/rotate.html", context)


@access.requires(Permission.CLIENT_MANAGE)
@access.step_up
@require_POST
@access.takes()
def revoke(request: HttpRequest, name: str, prefix: str) -> HttpResponse:
    """End a key now; running answers under it stop within seconds."""
    with access.attempt(request, target=f"key:{prefix}") as tried:
        client_services.revoke_key(actor=access.actor(request), prefix=prefix)
    if not tried.refused:
        access.say(
            request, access.WELL, f"Key {prefix} is revoked. It is refused within seconds, and running answers stop."
        )
    return redirect("client", name)


def once(request: HttpRequest) -> str:
    """A token for a form that makes a key; a newer one replaces it."""
    token = request.session[_ONCE] = secrets.token_urlsafe(16)
    return token


def _first_press(request: HttpRequest) -> bool:
    # Used up before the key is made: a reload of the answer must not make another.
    expected, given = request.session.pop(_ONCE, ""), request.POST.get("once", "")
    if expected and constant_time_compare(expected, given):
        return True
    access.say(request, access.DEGRADED, "That form was already used or is old. No key was made by this press.")
    return False


def _client(name: str, *, prefix: str = "") -> clients.ClientView:
    """The client, and that the key is one of its own; or a 404."""
    try:
        client = clients.client(name)
    except ClientNotFoundError as error:
        raise Http404 from error
    if prefix and prefix not in {key.prefix for key in client.keys}:
        raise Http404
    return client


def _only(named: list[str]) -> frozenset[str] | None:
    return frozenset(named) or None
