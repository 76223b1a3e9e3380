"""Releases: what exactly is this model, where does it serve, and proposing that it serve.

A proposal opens a change; nothing on this page starts or stops an engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts.permissions import Permission
from appliance.changes import selectors as changes
from console import access, current, listing
from inference.releases import selectors as releases
from inference.releases import services as proposing
from inference.releases.errors import NotFoundError

STATES = {
    "received": ("unknown", "Not served yet"),
    "starting": ("unknown", "Starting"),
    "serving": ("well", "Serving"),
    "draining": ("unknown", "Draining"),
    "retired": ("unknown", "Retired"),
    "failed": ("failed", "Failed to start"),
}
MANIFEST = (
    ("family", "Family"),
    ("architecture", "Architecture"),
    ("quantization", "Quantization"),
    ("languages", "Languages"),
    ("license", "Licence"),
    ("intended_use", "Intended use"),
    ("source", "Source"),
    ("converter", "Converted by"),
    ("min_appliance_version", "Needs appliance"),
)


COLUMNS = (
    listing.Column("Release", "name"),
    listing.Column("Version", "version", number=True, falls=True),
    listing.Column("State", "state"),
    listing.Column("Digest"),
    listing.Column("Family", "family"),
    listing.Column("Size", number=True),
    listing.Column("Received", "received", falls=True),
)


class ReleaseFilter(forms.Form):
    """Which releases; empty does not narrow."""

    text = forms.CharField(label="Name or digest", required=False, max_length=100)
    state = forms.ChoiceField(
        label="State",
        required=False,
        choices=[("", "any"), *((key, word) for key, (_, word) in STATES.items()), ("withdrawn", "Withdrawn")],
    )


class ReasonForm(forms.Form):
    """Why a change is wanted; the approvers read it first."""

    reason = forms.CharField(
        label="Reason",
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="The approvers read this first.",
    )


@dataclass(frozen=True)
class ReleaseRow:
    """A release with its state in words."""

    item: releases.ReleaseView
    level: str
    word: str


@dataclass(frozen=True)
class Fact:
    """One line of a definition list."""

    label: str
    value: str


@access.requires(Permission.RELEASE_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """The releases on this machine."""
    asked = listing.read(request, ReleaseFilter, COLUMNS, first="name")
    rows, asked = asked.fetch(releases.releases_listed)
    context = {"releases": [ReleaseRow(item, *_state(item)) for item in rows], "list": asked}
    return render(request, "console/releases/list.html", context)


@access.requires(Permission.RELEASE_VIEW)
@require_GET
def detail(request: HttpRequest, digest: str) -> HttpResponse:
    """One release: facts, checks, files, history."""
    return render(request, "console/releases/detail.html", _context(request, digest, ReasonForm()))


@access.requires(Permission.CHANGE_PROPOSE)
@require_POST
@access.takes(ReasonForm)
def propose(request: HttpRequest, digest: str) -> HttpResponse:
    """Open a change that makes this release serve."""
    return _propose(request, digest, proposing.propose_activation)


@access.requires(Permission.CHANGE_PROPOSE)
@require_POST
@access.takes(ReasonForm)
def roll_back(request: HttpRequest, digest: str) -> HttpResponse:
    """Open a change that goes back to this release."""
    return _propose(request, digest, proposing.propose_roll_back)


def _propose(request: HttpRequest, digest: str, service: Any) -> HttpResponse:
    form = ReasonForm(request.POST)
    if not form.is_valid():
        return render(request, "console/releases/detail.html", _context(request, digest, form), status=400)
    change_id = 0
    with access.attempt(request, target=f"release:{digest[:12]}"):
        change_id = service(actor=access.actor(request), digest=digest, reason=form.cleaned_data["reason"])
    return redirect("change", change_id) if change_id else redirect("release", digest)


def _context(request: HttpRequest, digest: str, form: ReasonForm) -> dict[str, Any]:
    try:
        detail = releases.release(digest)
    except NotFoundError as error:
        raise Http404 from error
    serving = current.of(request).serving
    level, word = _state(detail.release)
    may_propose = access.may(request, Permission.CHANGE_PROPOSE)
    about = changes.changes(subject=detail.release.digest) if access.may(request, Permission.CHANGE_VIEW) else ()
    undecided = next((change for change in about if change.state in {"open", "approved"}), None)
    return {
        "detail": detail,
        "level": level,
        "word": word,
        "manifest": manifest_facts(detail.manifest),
        "changes": changes.changes(subject=detail.release.digest)
        if access.may(request, Permission.CHANGE_VIEW)
        else (),
        "may_see_changes": access.may(request, Permission.CHANGE_VIEW),
        "form": form,
        "serving": serving,
        "proposes": _proposes(detail, serving) if may_propose and not undecided else "",
    }


def _proposes(detail: releases.ReleaseDetail, serving: releases.Serving | None) -> str:
    """Which proposal fits: none for what serves, going back for what served before and is not newer."""
    release = detail.release
    if release.withdrawn_at or not detail.verdict_ok or (serving and serving.release_digest == release.digest):
        return ""
    served = any(item.served_at for item in detail.deployments)
    older = serving is not None and serving.name == release.name and release.version < serving.version
    return "roll back" if served and older else "activation"


def _state(item: releases.ReleaseView) -> tuple[str, str]:
    if item.withdrawn_at:
        return "failed", "Withdrawn"
    return STATES.get(item.state, ("unknown", item.state))


def manifest_facts(manifest: Mapping[str, Any]) -> tuple[Fact, ...]:
    """What the publisher says of the model, in our order; what it does not say is said to be missing."""
    facts = []
    for key, label in MANIFEST:
        value = manifest.get(key)
        if isinstance(value, list | tuple):
            value = ", ".join(str(item) for item in value)
        elif isinstance(value, Mapping):
            value = ", ".join(f"{name}: {item}" for name, item in sorted(value.items()))
        facts.append(Fact(label, str(value) if value not in (None, "") else "not stated"))
    return tuple(facts)
