"""The first second factor: between the two steps of sign-in, with a code that an administrator gave by hand.

Nobody is signed in by this. Whoever enrols goes on to the second step with the generator they have just made.
"""

from __future__ import annotations

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from appliance.accounts.errors import EnrolmentError
from appliance.accounts.permissions import Permission
from appliance.accounts.services import enrolment
from console import access, second_factor, shown_seed
from console.pages import sign_in

_TICKET = "enrolment_ticket"


class GivenForm(forms.Form):
    """The code from the administrator."""

    given = forms.CharField(
        label="Code to enrol with",
        max_length=64,
        widget=forms.TextInput(attrs={"autocomplete": "off", "class": "mono"}),
    )


class ShownForm(forms.Form):
    """A code of the new generator."""

    shown = second_factor.code_field("The code it shows now")


@access.requires(Permission.STAFF_MANAGE)
@access.step_up
@require_POST
@access.takes()
@sensitive_variables("code")
def give(request: HttpRequest, username: str) -> HttpResponse:
    """A code for somebody who has no second factor; on this answer and nowhere else."""
    code = ""
    with access.attempt(request, target=f"person:{username}"):
        code = enrolment.give(actor=access.actor(request), username=username)
    if not code:
        return redirect("person", username)
    return render(request, "console/staff/enrolment.html", {"username": username, "code": code})


@sensitive_post_parameters("given", "shown")
@access.public("between the two steps of sign-in, for somebody who has no second factor yet")
@require_http_methods(["GET", "POST"])
@access.takes(GivenForm, ShownForm)
def page(request: HttpRequest) -> HttpResponse:
    """The given code, then the seed, then a code of it."""
    name = sign_in.pending(request)
    if not name:
        return redirect("sign-in")
    if "shown" in request.POST and _TICKET in request.session:
        return _confirm(request, name)
    form = GivenForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            return _seed(request, name, enrolment.ticket(code=form.cleaned_data["given"]), ShownForm())
        except EnrolmentError as refusal:
            form.add_error(None, str(refusal))
    context = {"form": form, "person_name": name}
    return render(request, "console/sign_in/enrol.html", context, status=403 if form.errors else 200)


def _confirm(request: HttpRequest, name: str) -> HttpResponse:
    form, ticket = ShownForm(request.POST), request.session[_TICKET]
    try:
        if form.is_valid() and enrolment.finish(actor=name, ticket=ticket, shown=form.cleaned_data["shown"]):
            request.session.pop(_TICKET)
            return render(request, "console/sign_in/enrolled.html", {})
        form.add_error("shown", "That is not its code. A new secret stands above: put it in, and type what it shows.")
        return _seed(request, name, ticket, form, status=403)
    except EnrolmentError:
        request.session.pop(_TICKET)
        return redirect("enrol")


@sensitive_variables("shown")
def _seed(request: HttpRequest, name: str, ticket: str, form: ShownForm, *, status: int = 200) -> HttpResponse:
    shown = shown_seed.show(enrolment.begin(actor=name, ticket=ticket), name=name)
    request.session[_TICKET] = ticket
    context = {"form": form, "person_name": name, "secret": shown.text, "picture": shown.picture}
    return render(request, "console/sign_in/enrol.html", context, status=status)
