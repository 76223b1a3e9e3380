"""Asking for a second factor, at sign-in and at a step-up: a security key first, what is typed as the other way.

Decides nothing about what counts; `appliance.accounts.services` does, and counts failures.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest
from django_otp.models import Device

from appliance.accounts.errors import SignInRefusedError
from appliance.accounts.services import factors, passkeys
from console import access


class CodeForm(forms.Form):
    """Not stripped and not read as a number: the ledger takes six ASCII digits or a recovery code, and nothing like them."""

    code = forms.CharField(
        label="Code",
        max_length=64,
        strip=False,
        help_text="Six digits of your generator, or one of your recovery codes.",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "autocapitalize": "none", "class": "code long"}),
    )


def code_field(label: str, help_text: str = "") -> forms.CharField:
    """Six digits of a generator. Not stripped and not read as a number, as above."""
    return forms.CharField(
        label=label,
        help_text=help_text,
        max_length=64,
        strip=False,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "class": "code"}),
    )


class ProofForm(forms.Form):
    """Both factors again, for an act that is signed with them."""

    password = forms.CharField(
        label="Your password",
        max_length=1024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    code = code_field("One-time code", "A fresh one: each code counts once, the one you signed in with too.")


class KeyForm(forms.Form):
    """What a security key answered; a script of ours fills it in."""

    answer = forms.CharField(max_length=16_384, strip=False, widget=forms.HiddenInput)


class Prompt:
    """One person asked for one purpose in one session."""

    def __init__(self, request: HttpRequest, *, name: str, purpose: str) -> None:
        self._request, self._name, self._purpose = request, name, purpose
        posted = bool(request.POST)
        self.by_key = posted and "answer" in request.POST
        self._key_form = KeyForm(request.POST if self.by_key else None)
        self._code_form = CodeForm(request.POST if posted and not self.by_key else None)

    @property
    def _form(self) -> forms.Form:
        return self._key_form if self.by_key else self._code_form

    @property
    def status(self) -> int:
        """The page's: 403 once something was refused."""
        return 403 if self._form.errors else 200

    def device(self) -> Device | None:
        """The factor that was shown; None when nothing was. SignInRefusedError when it does not count."""
        if not self._form.is_bound or not self._form.is_valid():
            return None
        try:
            if self.by_key:
                return passkeys.check(
                    actor=self._name,
                    session=access.row_key(self._request),
                    purpose=self._purpose,
                    answer=self._form.cleaned_data["answer"],
                )
            return factors.check_typed(actor=self._name, code=self._form.cleaned_data["code"])
        except SignInRefusedError as refusal:
            self._form.add_error(None, str(refusal))
            raise

    def context(self) -> dict[str, Any]:
        """What console/_second_factor.html prints."""
        here = keys_work_here(self._request)
        session = access.row_key(self._request)
        question = passkeys.question(username=self._name, session=session, purpose=self._purpose)
        return {
            "refused": self._form,
            "code_form": self._code_form,
            "question": question if here else "",
            "keys_at": settings.SITE.console.name if question and not here else "",
        }


def keys_work_here(request: HttpRequest) -> bool:
    """Whether the console was opened under the name that security keys are bound to."""
    host, name = request.get_host(), settings.SITE.console.name
    return bool(name) and (host == name or host.rpartition(":")[0] == name)
