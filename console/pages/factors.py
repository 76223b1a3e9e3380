"""Factors: a person's own second factors. Adding, renewing and taking away need a step-up; each is recorded.

A seed and a set of recovery codes exist on exactly one kind of answer each, as an API key does: no redirect carries them.
"""

from __future__ import annotations

import django_otp
from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from appliance.accounts.errors import FactorError, PasskeyRefusedError
from appliance.accounts.services import codes, factors, passkeys, recovery
from appliance.alerts import services as alerting
from appliance.audit import services as audit
from appliance.audit.actions import Action
from console import access, second_factor, shown_seed


class ConfirmForm(forms.Form):
    """A code of the new generator."""

    code = second_factor.code_field("The code it shows now")


class NewKeyForm(second_factor.KeyForm):
    """What the key answered, and what its owner calls it."""

    name = forms.CharField(label="What you call it", max_length=64, help_text="Such as: blue key, on my badge.")


@access.signed_in_only
@access.step_up_to_enrol
@require_http_methods(["GET", "POST"])
@sensitive_post_parameters("code")
@access.takes(ConfirmForm)
def generator(request: HttpRequest) -> HttpResponse:
    """A new generator: a post without a code makes its seed and shows it, a post with one confirms it."""
    me = access.actor(request)
    if request.method != "POST":
        return render(request, "console/factors/generator.html", {"begun": False})
    if "code" not in request.POST:
        return _show_seed(request, codes.enrol_totp(actor=me, username=me), ConfirmForm())
    form = ConfirmForm(request.POST)
    try:
        seed = codes.waiting_seed(username=me)
    except FactorError as refusal:
        access.say(request, access.FAILED, str(refusal))
        return redirect("profile-generator")
    if form.is_valid():
        confirmed = codes.confirm_totp(actor=me, username=me, code=form.cleaned_data["code"])
        if confirmed is not None:
            # Sessions that the earlier generator opened are over with it; this one goes on under the new one.
            if access.factor(request) == "totp":
                django_otp.login(request, confirmed)
            access.say(request, access.WELL, "Your new generator counts from now on. Any earlier one does not.")
            return redirect("profile")
        form.add_error("code", "That is not its code. Look at its clock, and type the code it shows now.")
    return _show_seed(request, seed, form, status=403)


@access.signed_in_only
@access.step_up
@require_POST
@access.takes()
def generator_remove(request: HttpRequest) -> HttpResponse:
    """Take the generator away, while a key stays."""
    with access.attempt(request, target="factor:totp") as tried:
        factors.remove_generator(actor=access.actor(request))
    if not tried.refused:
        access.say(request, access.WELL, "Your generator is taken away. Its codes no longer count.")
    return redirect("profile")


@access.signed_in_only
@access.step_up_to_enrol
@require_http_methods(["GET", "POST"])
@access.takes(NewKeyForm)
def key_new(request: HttpRequest) -> HttpResponse:
    """Enrol a security key or passkey."""
    me, session = access.actor(request), access.row_key(request)
    form = NewKeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            passkeys.enrol(actor=me, session=session, **form.cleaned_data)
        except FactorError as refusal:
            reason = refusal.reason if isinstance(refusal, PasskeyRefusedError) else refusal.code
            audit.refuse(actor=me, action=Action.PERSON_PASSKEY_REFUSED, target=me, outcome=reason)
            form.add_error(None, str(refusal))
        else:
            access.say(request, access.WELL, f"{form.cleaned_data['name']} is enrolled. It opens the door from now on.")
            return redirect("profile")
    here = second_factor.keys_work_here(request)
    context = {
        "form": form,
        "options": passkeys.enrolment_options(username=me, session=session) if here else "",
        "keys_at": settings.SITE.console.name,
    }
    return render(request, "console/factors/key_new.html", context, status=403 if form.errors else 200)


@access.signed_in_only
@access.step_up
@require_POST
@access.takes()
def key_remove(request: HttpRequest, key_id: int) -> HttpResponse:
    """Take one key away, while another factor stays."""
    with access.attempt(request, target=f"factor:key:{key_id}") as tried:
        factors.remove_key(actor=access.actor(request), key_id=key_id)
    if not tried.refused:
        access.say(request, access.WELL, "That key is taken away. It no longer opens the door.")
    return redirect("profile")


@access.signed_in_only
@access.step_up
@require_http_methods(["GET", "POST"])
@sensitive_variables("made")
@access.takes()
def recovery_codes(request: HttpRequest) -> HttpResponse:
    """Ten new recovery codes, shown on the answer to the post and nowhere else."""
    me = access.actor(request)
    if request.method != "POST":
        return render(request, "console/factors/recovery.html", {"codes": ()})
    made = recovery.make(actor=me, username=me)
    alerting.close(actor=me, key=f"recovery_code.{me}", reason="a new sheet of recovery codes")
    return render(request, "console/factors/recovery.html", {"codes": made})


@sensitive_variables("seed", "shown")
def _show_seed(request: HttpRequest, seed: bytes, form: ConfirmForm, *, status: int = 200) -> HttpResponse:
    shown = shown_seed.show(seed, name=access.actor(request))
    context = {"begun": True, "form": form, "secret": shown.text, "picture": shown.picture}
    return render(request, "console/factors/generator.html", context, status=status)
