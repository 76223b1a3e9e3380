"""Media and imports: what is on the stick, may it come in, and how far is it.

Nothing read from a medium here is trusted: the list says what the medium says of itself. The verdict is the import's.
"""

from __future__ import annotations

from dataclasses import dataclass

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts.permissions import Permission
from console import access, current, listing
from inference.releases import selectors as releases
from inference.releases import services as importing
from inference.releases import tasks as bells
from inference.releases.errors import NotFoundError

LEVELS = {
    "queued": "unknown",
    "copying": "unknown",
    "checking": "unknown",
    "done": "well",
    "refused": "failed",
    "failed": "failed",
}
WORDS = {
    "queued": "Waiting",
    "copying": "Copying",
    "checking": "Checking",
    "done": "Received",
    "refused": "Refused",
    "failed": "Failed",
    "cancelled": "Cancelled",
}


COLUMNS = (
    listing.Column("Bundle", "bundle"),
    listing.Column("State", "state"),
    listing.Column("What happened"),
    listing.Column("By", "by"),
    listing.Column("Started", "started", falls=True),
)


class ImportFilter(forms.Form):
    """Which imports; empty does not narrow."""

    bundle = forms.CharField(label="Bundle", required=False, max_length=100)
    state = forms.ChoiceField(label="State", required=False, choices=[("", "any"), *WORDS.items()])
    by = forms.CharField(label="By", required=False, max_length=150)


class ImportForm(forms.Form):
    """Which bundle to bring in, as the list named it."""

    # Not `media`: that name is the form's own, for its scripts and styles.
    medium = forms.CharField(max_length=500)
    bundle = forms.CharField(max_length=200)


@dataclass(frozen=True)
class Progress:
    """An import with the words and figures a page prints."""

    item: releases.ImportView
    level: str
    word: str
    rate: int
    seconds_left: int | None


@access.requires(Permission.RELEASE_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """What lies on the media now, and the imports so far."""
    found = releases.media()
    busy = {item.bundle for item in current.of(request).imports}
    received = releases.received([(item.bundle, item.version) for item in found])
    imports, asked = listing.read(request, ImportFilter, COLUMNS, first="-started").fetch(releases.imports_listed)
    context = {
        "found": [
            {"medium": item, "busy": item.bundle in busy, "received": (item.bundle, item.version) in received}
            for item in found
        ],
        "roots": [str(root) for root in settings.SITE.media_roots],
        "imports": [_progress(item) for item in imports],
        "list": asked,
        "may_import": access.may(request, Permission.RELEASE_IMPORT),
    }
    return render(request, "console/media/list.html", context)


@access.requires(Permission.RELEASE_IMPORT)
@require_POST
@access.takes(ImportForm)
def start(request: HttpRequest) -> HttpResponse:
    """Begin an import; the row is committed before the worker is told."""
    form = ImportForm(request.POST)
    if not form.is_valid():
        access.say(request, access.FAILED, "Choose a bundle from the list below.")
        return redirect("media")
    import_id = 0
    with access.attempt(request, target=f"bundle:{form.cleaned_data['bundle']}"):
        import_id = importing.start_import(
            actor=access.actor(request), media=form.cleaned_data["medium"], bundle=form.cleaned_data["bundle"]
        )
    if not import_id:
        return redirect("media")
    bells.ring(import_id)
    return redirect("import", import_id)


@access.requires(Permission.RELEASE_VIEW)
@require_GET
def detail(request: HttpRequest, import_id: int) -> HttpResponse:
    """One import: progress, then its verdict."""
    return render(request, "console/media/detail.html", _detail(request, import_id))


@access.requires(Permission.RELEASE_VIEW)
@require_GET
def live(request: HttpRequest, import_id: int) -> HttpResponse:
    """The moving part of that page."""
    return render(request, "console/media/_progress.html", _detail(request, import_id))


@access.requires(Permission.RELEASE_IMPORT)
@require_POST
@access.takes()
def cancel(request: HttpRequest, import_id: int) -> HttpResponse:
    """Stop an import; nothing of it stays on the disk."""
    with access.attempt(request, target=f"import:{import_id}") as tried:
        importing.cancel_import(actor=access.actor(request), import_id=import_id)
    if not tried.refused:
        access.say(request, access.WELL, "The import is stopping. Nothing of it will be installed.")
    return redirect("import", import_id)


def _detail(request: HttpRequest, import_id: int) -> dict[str, object]:
    try:
        progress = _progress(releases.import_(import_id))
    except NotFoundError as error:
        raise Http404 from error
    return {"progress": progress, "as_of": timezone.now(), "may_import": access.may(request, Permission.RELEASE_IMPORT)}


def _progress(item: releases.ImportView) -> Progress:
    rate, left = 0, None
    if item.state == "copying" and item.started:
        seconds = (timezone.now() - item.started).total_seconds()
        rate = int(item.bytes_done / seconds) if seconds > 0 else 0
        left = (item.bytes_total - item.bytes_done) // rate if rate else None
    word = "Stopping" if item.live and item.cancel_requested else WORDS.get(item.state, item.state)
    return Progress(item, LEVELS.get(item.state, "unknown"), word, rate, left)
