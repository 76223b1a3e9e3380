"""Staff: who can do what, with which factors, and which duties are kept apart."""

from __future__ import annotations

from dataclasses import dataclass

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from appliance.accounts import selectors as accounts
from appliance.accounts import services as people
from appliance.accounts.permissions import APART, GRANTS, Permission, Role, may_hold_phi
from console import access


@dataclass(frozen=True)
class RoleRow:
    """A role and what it allows, for the table below the people."""

    label: str
    permissions: tuple[str, ...]


class PatientsForm(forms.Form):
    """Whether a person may be shown patients' text."""

    allowed = forms.ChoiceField(choices=[("yes", "yes"), ("no", "no")])


class RolesForm(forms.Form):
    """The roles a person has from now on."""

    roles = forms.MultipleChoiceField(
        label="Roles",
        required=False,
        choices=[(role.value, role.label) for role in Role],
        widget=forms.CheckboxSelectMultiple,
    )


@access.requires(Permission.STAFF_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Everybody, with roles and factors."""
    now = timezone.now()
    context = {
        "people": [
            {
                "person": person,
                "locked": person.locked_until is not None and person.locked_until > now,
                "may_be_given": may_hold_phi([role.value for role in person.roles]),
            }
            for person in accounts.people()
        ],
        "resets": accounts.resets_waiting(),
        "roles": [RoleRow(role.label, tuple(sorted(GRANTS[role]))) for role in Role],
        "apart": APART,
        "may_manage": access.may(request, Permission.STAFF_MANAGE),
        "may_grant": access.may(request, Permission.PHI_GRANT),
        "me": access.actor(request),
    }
    return render(request, "console/staff/list.html", context)


@access.requires(Permission.STAFF_MANAGE)
@access.step_up_to_post
@require_http_methods(["GET", "POST"])
@access.takes(RolesForm)
def detail(request: HttpRequest, username: str) -> HttpResponse:
    """One person; a post replaces their roles."""
    person = accounts.person(username)
    if person is None:
        raise Http404
    form = RolesForm(
        request.POST if request.method == "POST" else None, initial={"roles": [r.value for r in person.roles]}
    )
    if request.method == "POST" and form.is_valid():
        with access.attempt(request, target=f"person:{username}") as tried:
            people.set_roles(actor=access.actor(request), username=username, roles=form.cleaned_data["roles"])
        if not tried.refused:
            access.say(request, access.WELL, f"The roles of {username} are changed; they sign in again to use them.")
        return redirect("person", username)
    context = {"person": person, "form": form, "is_self": username == access.actor(request)}
    return render(request, "console/staff/detail.html", context)


@access.requires(Permission.STAFF_MANAGE)
@access.step_up
@require_POST
@access.takes()
def deactivate(request: HttpRequest, username: str) -> HttpResponse:
    """End a person's access at their next request."""
    with access.attempt(request, target=f"person:{username}") as tried:
        people.deactivate(actor=access.actor(request), username=username)
    if not tried.refused:
        access.say(request, access.WELL, f"{username} can no longer sign in. What they approved stays on record.")
    return redirect("staff")


@access.requires(Permission.PHI_GRANT)
@access.step_up
@require_POST
@access.takes(PatientsForm)
def patients(request: HttpRequest, username: str) -> HttpResponse:
    """Give or take the right to be shown patients' text."""
    form = PatientsForm(request.POST)
    if not form.is_valid():
        return redirect("staff")
    allowed = form.cleaned_data["allowed"] == "yes"
    with access.attempt(request, target=f"person:{username}") as tried:
        people.set_phi_right(actor=access.actor(request), username=username, allowed=allowed)
    if not tried.refused:
        says = f"{username} may be shown patients' text." if allowed else f"{username} is shown no patients' text."
        access.say(request, access.WELL, says)
    return redirect("staff")
