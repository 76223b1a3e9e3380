"""Clients: which clinical apps may ask what. Their keys are `client_keys`."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from appliance.accounts.permissions import Permission
from console import access, listing
from console.pages import client_keys
from inference.clients import selectors as clients
from inference.clients import services as client_services
from inference.clients.errors import ClientNotFoundError
from inference.policy.catalog import TASKS, Feature, Lane, Purpose

LANE_SAYS = {
    Lane.STAT: "stat: someone waits at a bedside",
    Lane.INTERACTIVE: "interactive: someone waits at a screen",
    Lane.BATCH: "batch: nobody waits",
}
FEATURE_SAYS = {
    Feature.JSON_SCHEMA: "answers in the shape of a JSON schema",
    Feature.LOGPROBS: "log probabilities",
    Feature.TOOLS: "tools: functions of the app that the model may name",
}


COLUMNS = (
    listing.Column("Client", "name"),
    listing.Column("State", "state"),
    listing.Column("Owner", "owner"),
    listing.Column("Tasks"),
    listing.Column("Purposes"),
    listing.Column("Lane", "lane"),
    listing.Column("PHI"),
    listing.Column("Keys"),
)


class ClientFilter(forms.Form):
    """Which clients; empty does not narrow."""

    text = forms.CharField(label="Name, title or owner", required=False, max_length=100)
    state = forms.ChoiceField(
        label="State", required=False, choices=[("", "any"), ("active", "Active"), ("suspended", "Suspended")]
    )
    lane = forms.ChoiceField(label="Lane", required=False, choices=[("", "any"), *((x.value, x.value) for x in Lane)])


class NamesField(forms.RegexField):
    """Names between spaces, commas or new lines, as a list."""

    def __init__(self, **given: Any) -> None:
        super().__init__(r"^[A-Za-z0-9_.,\s-]*$", required=False, widget=forms.Textarea({"rows": 2}), **given)

    def clean(self, value: Any) -> list[str]:
        return str(super().clean(value)).replace(",", " ").split()


class GrantsForm(forms.Form):
    """What a client may ask for; what is not ticked is not granted."""

    tasks = forms.MultipleChoiceField(
        label="Tasks", choices=[(task.id, task.title) for task in TASKS.values()], widget=forms.CheckboxSelectMultiple
    )
    purposes = forms.MultipleChoiceField(
        label="Purposes",
        choices=[(item.value, f"{item.value}: {item.label}") for item in Purpose],
        widget=forms.CheckboxSelectMultiple,
    )
    features = forms.MultipleChoiceField(
        label="Besides text",
        required=False,
        choices=[(feature.value, says) for feature, says in FEATURE_SAYS.items()],
        widget=forms.CheckboxSelectMultiple,
    )
    tools = NamesField(
        label="Names of its tools", help_text="The functions it may offer to the model. None is called by this machine."
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
    assertion_required = forms.BooleanField(
        label="Must prove for whom it asks",
        required=False,
        help_text="Each request then needs a signed statement of its user; what that user may not, the app may not.",
    )


class ClientForm(GrantsForm):
    """A new client."""

    name = forms.RegexField(
        r"^[a-z][a-z0-9-]{1,63}$",
        label="Name",
        help_text="Small letters, digits and dashes; it stands in every record, such as ward-7.",
        error_messages={"invalid": "Use 2 to 64 of a-z, 0-9 and -, beginning with a letter."},
    )
    title = forms.CharField(label="Title", max_length=120, help_text="What people call the app.")
    owner = forms.CharField(label="Owner", max_length=120, help_text="The person or department who answers for it.")


@access.requires(Permission.CLIENT_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """The clients, by name unless asked otherwise."""
    found, asked = listing.read(request, ClientFilter, COLUMNS, first="name").fetch(clients.listed)
    context = {"clients": found, "list": asked, "may_manage": access.may(request, Permission.CLIENT_MANAGE)}
    return render(request, "console/clients/list.html", context)


@access.requires(Permission.CLIENT_MANAGE)
@require_http_methods(["GET", "POST"])
@access.takes(ClientForm)
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
    """One client: its rights, its keys, and who may vouch for its users."""
    client = found(name)
    may_manage = access.may(request, Permission.CLIENT_MANAGE)
    context = {
        "client": client,
        "tasks": [TASKS[task] for task in client.tasks if task in TASKS],
        "purposes": [Purpose(purpose) for purpose in client.purposes],
        "features": [FEATURE_SAYS[Feature(feature)] for feature in client.features],
        "lane_says": LANE_SAYS[Lane(client.lane)],
        "issuers": clients.issuers(of_client=name),
        "form": client_keys.KeyForm(client=client),
        "once": client_keys.once(request) if may_manage else "",
        "may_manage": may_manage,
    }
    return render(request, "console/clients/detail.html", context)


@access.requires(Permission.CLIENT_MANAGE)
@require_http_methods(["GET", "POST"])
@access.takes(GrantsForm)
def grants(request: HttpRequest, name: str) -> HttpResponse:
    """Replace what a client may ask for."""
    client = found(name)
    granted = {field: getattr(client, field) for field in GrantsForm.base_fields}
    form = GrantsForm(request.POST or None, initial={**granted, "tools": " ".join(client.tools)})
    if request.method == "POST" and form.is_valid():
        with access.attempt(request, target=f"client:{name}") as tried:
            client_services.set_grants(actor=access.actor(request), client=name, **form.cleaned_data)
        if not tried.refused:
            access.say(
                request,
                access.WELL,
                f"{name} may ask what is listed here. Running answers that lost a right stop.",
            )
            return redirect("client", name)
    return render(request, "console/clients/grants.html", {"client": client, "form": form})


@access.requires(Permission.CLIENT_MANAGE)
@require_POST
@access.takes("active")
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


def found(name: str) -> clients.ClientView:
    """The client a page is about, or a 404."""
    try:
        return clients.client(name)
    except ClientNotFoundError as error:
        raise Http404 from error
