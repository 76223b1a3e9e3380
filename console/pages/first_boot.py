"""First boot: the set-up page of a machine that has nobody. There is no such page once it has.

Two steps in one sitting: the secret that somebody with root has made, then two people with a password and a generator
each. Nothing is written about either until both are right; decides nothing about who they may be (accounts.rules).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from appliance.accounts import rules
from appliance.accounts import selectors as accounts
from appliance.accounts.errors import AccountError, FirstBootOverError, FirstBootSecretError
from appliance.accounts.services import first_boot
from console import access, second_factor, shown_seed
from console.pages import errors

_SITTING = "first_boot_sitting"
_STRANGER = "unknown"

View = Callable[[HttpRequest], HttpResponse]


class SecretForm(forms.Form):
    """What `manage.py first_boot` printed."""

    secret = forms.CharField(
        label="Set-up secret", max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off", "class": "mono"})
    )


class NewcomerForm(forms.Form):
    """One of the two."""

    username = forms.CharField(
        label="Name for signing in",
        max_length=32,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"}),
        help_text="2 to 32 of a-z, 0-9, '.', '_' and '-'. It stays in the log for good.",
    )
    display_name = forms.CharField(label="Full name", max_length=120)
    password = forms.CharField(
        label="Password",
        max_length=1024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 12 characters. Only its owner types it.",
    )
    again = forms.CharField(
        label="Password again",
        max_length=1024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    code = second_factor.code_field("The code the generator shows now")

    def clean_username(self) -> str:
        """Held to the rule for names here, so that the field is marked and not the page."""
        name: str = self.cleaned_data["username"]
        try:
            rules.check_username(name)
        except AccountError as error:
            raise forms.ValidationError(str(error)) from error
        return name

    def clean_again(self) -> str:
        """Both times the same."""
        if self.cleaned_data["again"] != self.cleaned_data.get("password"):
            raise forms.ValidationError("The two do not match.")
        return str(self.cleaned_data["again"])

    def newcomer(self) -> first_boot.Newcomer:
        """What is passed on."""
        given = self.cleaned_data
        return first_boot.Newcomer(given["username"], given["display_name"], given["password"], given["code"])


PREFIXES = ("one", "two")
_FIELDS = tuple(f"{prefix}-{field}" for prefix in PREFIXES for field in NewcomerForm.base_fields)


@dataclass(frozen=True)
class Place:
    """One of the two columns: whose duties, which generator, which form."""

    title: str
    duties: str
    form: NewcomerForm
    seed: str
    picture: SafeString


def while_nobody(view: View) -> View:
    """The page is there while the machine has nobody; afterwards it is not, for anybody, whatever they send."""

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if not accounts.is_first_boot():
            raise Http404
        return view(request)

    return guarded


@sensitive_post_parameters("secret")
@access.public("nobody can sign in yet; the set-up secret is what opens it")
@require_http_methods(["GET", "POST"])
@access.takes(SecretForm)
@while_nobody
def secret(request: HttpRequest) -> HttpResponse:
    """Step one: the secret."""
    form = SecretForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            sitting = first_boot.begin(actor=_STRANGER, secret=form.cleaned_data["secret"])
        except FirstBootSecretError as refusal:
            form.add_error(None, str(refusal))
        else:
            request.session.flush()
            request.session[_SITTING] = sitting
            return redirect("first-boot-people")
    context = {"form": form, "minutes": int(rules.FIRST_BOOT_FOR.total_seconds() // 60)}
    return render(request, "console/first_boot/secret.html", context, status=403 if form.errors else 200)


@sensitive_post_parameters()
@access.public("nobody can sign in yet; the sitting that the secret began is what opens it")
@require_http_methods(["GET", "POST"])
@access.takes(*_FIELDS)
@while_nobody
def people(request: HttpRequest) -> HttpResponse:
    """Step two: both people."""
    sitting = request.session.get(_SITTING, "")
    try:
        seeds = first_boot.seeds(sitting=sitting)
    except FirstBootSecretError:
        # Another sitting was begun since, or the hour is over.
        request.session.flush()
        return redirect("first-boot")
    given = [NewcomerForm(request.POST if request.method == "POST" else None, prefix=prefix) for prefix in PREFIXES]
    refused = ""
    valid = [form.is_valid() for form in given]  # both, so that each half says what is wrong with it
    if all(valid):
        try:
            first_boot.finish(actor=_STRANGER, sitting=sitting, newcomers=[form.newcomer() for form in given])
        except FirstBootOverError:
            request.session.flush()
            return errors.first_boot_over(request)
        except AccountError as refusal:
            refused = str(refusal)
        else:
            request.session.flush()
            return render(request, "console/first_boot/done.html", {"people": [f.cleaned_data for f in given]})
    wrong = bool(refused) or any(form.errors for form in given)
    context = {"places": _places(given, seeds), "refused": refused}
    return render(request, "console/first_boot/people.html", context, status=403 if wrong else 200)


@sensitive_variables("seeds", "seed")
def _places(given: list[NewcomerForm], seeds: tuple[bytes, ...]) -> list[Place]:
    titles = ("The first person", "The second person")
    places = []
    for title, duties, form, seed in zip(titles, rules.FIRST_DUTIES, given, seeds, strict=True):
        shown = shown_seed.show(seed, name=title.lower())
        duty = " and ".join(role.label for role in duties)
        places.append(Place(title=title, duties=duty, form=form, seed=shown.text, picture=shown.picture))
    return places
