"""Queue: who waits, how long, and why; stop the line, and end somebody's work.

Counts and names only; what was asked is sealed and no page opens it. Each act says first what it will do and to how much,
and asks why; the answer is in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from appliance.accounts.permissions import Permission
from console import access, listing
from inference.policy.catalog import TASKS
from inference.queue import rules
from inference.queue import selectors as queue
from inference.queue import services as working
from inference.queue.errors import BatchNotFoundError, JobNotFoundError

LEVELS = {"queued": "unknown", "running": "unknown", "succeeded": "well", "failed": "failed", "cancelled": "unknown"}
WORDS = {"queued": "Waiting", "running": "Running", "succeeded": "Done", "failed": "Failed", "cancelled": "Cancelled"}

BATCH_WORDS = {
    "validating": "Being read",
    "in_progress": "In progress",
    "cancelling": "Being cancelled",
    "completed": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "expired": "Out of time",
}
BATCH_LEVELS = {"completed": "well", "failed": "failed", "expired": "failed"}
JOB_COLUMNS = (
    listing.Column("Job"),
    listing.Column("State", "state"),
    listing.Column("Place", number=True),
    listing.Column("Client", "client"),
    listing.Column("Task, purpose"),
    listing.Column("Attempts", number=True),
    listing.Column("Accepted", "accepted", falls=True),
)
BATCH_COLUMNS = (
    listing.Column("Batch"),
    listing.Column("State", "state"),
    listing.Column("Client", "client"),
    listing.Column("Lines", number=True),
    listing.Column("Answered", number=True),
    listing.Column("Without an answer", number=True),
    listing.Column("Left", number=True),
    listing.Column("Accepted", "accepted", falls=True),
)


class JobFilter(forms.Form):
    """Which jobs; empty does not narrow."""

    text = forms.RegexField(r"^[A-Za-z0-9_]+$", label="Job or batch", required=False, max_length=40)
    client = forms.SlugField(label="Client", required=False, max_length=64)
    task = forms.ChoiceField(
        label="Task", required=False, choices=[("", "any"), *((task.id, task.title) for task in TASKS.values())]
    )
    state = forms.ChoiceField(label="State", required=False, choices=[("", "any"), *WORDS.items()])


class BatchFilter(forms.Form):
    """Which batches; empty does not narrow."""

    text = forms.RegexField(r"^[A-Za-z0-9_]+$", label="Batch", required=False, max_length=40)
    client = forms.SlugField(label="Client", required=False, max_length=64)
    state = forms.ChoiceField(label="State", required=False, choices=[("", "any"), *BATCH_WORDS.items()])


class ReasonForm(forms.Form):
    """Why; it stands in the log."""

    reason = forms.CharField(label="Reason", max_length=500, help_text="It stands in the log beside your name.")


@access.requires(Permission.QUEUE_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """The line and its head, the batches, and what runs."""
    return render(request, "console/queue/list.html", _context(request))


@access.requires(Permission.QUEUE_VIEW)
@require_GET
def live(request: HttpRequest) -> HttpResponse:
    """The same without the shell."""
    return render(request, "console/queue/_now.html", _context(request))


@access.requires(Permission.QUEUE_MANAGE)
@require_http_methods(["GET", "POST"])
@access.takes(ReasonForm)
def pause(request: HttpRequest) -> HttpResponse:
    """Say what a pause will do, then do it."""
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with access.attempt(request, target="queue:batch") as tried:
            working.pause(actor=access.actor(request), request_id=access.request_id(request), **form.cleaned_data)
        if not tried.refused:
            access.say(request, access.WELL, "The durable lane is paused. What runs ends; nothing new begins.")
        return redirect("queue")
    context = {"form": form, "line": queue.line(), "paused": queue.pause(), "seconds": int(rules.RENEW_S)}
    return render(request, "console/queue/pause.html", context)


@access.requires(Permission.QUEUE_MANAGE)
@require_POST
@access.takes()
def resume(request: HttpRequest) -> HttpResponse:
    """Let the line go on."""
    with access.attempt(request, target="queue:batch") as tried:
        working.resume(actor=access.actor(request), request_id=access.request_id(request))
    if not tried.refused:
        access.say(request, access.WELL, "The durable lane goes on. Workers take the next work within seconds.")
    return redirect("queue")


@access.requires(Permission.QUEUE_VIEW)
@require_GET
def jobs(request: HttpRequest) -> HttpResponse:
    """Jobs and lines of batches, with their places in the line."""
    rows, asked = listing.read(request, JobFilter, JOB_COLUMNS, first="-accepted").fetch(queue.jobs_listed)
    return render(request, "console/queue/jobs.html", {"rows": [_job(row) for row in rows], "list": asked})


@access.requires(Permission.QUEUE_VIEW)
@require_GET
def job(request: HttpRequest, ref: str) -> HttpResponse:
    """One job, without what was asked."""
    return _job_page(request, ref, ReasonForm())


@access.requires(Permission.QUEUE_MANAGE)
@require_POST
@access.takes(ReasonForm)
def stop_job(request: HttpRequest, ref: str) -> HttpResponse:
    """End one job."""
    form = ReasonForm(request.POST)
    if not form.is_valid():
        return _job_page(request, ref, form, status=400)
    return _stop(request, form, working.stop_job, ref, "job")


@access.requires(Permission.QUEUE_VIEW)
@require_GET
def batches(request: HttpRequest) -> HttpResponse:
    """Every batch that is still known."""
    rows, asked = listing.read(request, BatchFilter, BATCH_COLUMNS, first="-accepted").fetch(queue.batches_listed)
    return render(request, "console/queue/batches.html", {"rows": [_batch(row) for row in rows], "list": asked})


@access.requires(Permission.QUEUE_VIEW)
@require_GET
def batch(request: HttpRequest, ref: str) -> HttpResponse:
    """One batch, without what was asked."""
    return _batch_page(request, ref, ReasonForm())


@access.requires(Permission.QUEUE_MANAGE)
@require_POST
@access.takes(ReasonForm)
def stop_batch(request: HttpRequest, ref: str) -> HttpResponse:
    """End one batch."""
    form = ReasonForm(request.POST)
    if not form.is_valid():
        return _batch_page(request, ref, form, status=400)
    return _stop(request, form, working.stop_batch, ref, "batch")


def _stop(request: HttpRequest, form: ReasonForm, act: Callable[..., None], ref: str, kind: str) -> HttpResponse:
    with access.attempt(request, target=f"{kind}:{ref}"[:200]) as tried:
        act(
            actor=access.actor(request),
            ref=ref,
            reason=form.cleaned_data["reason"],
            request_id=access.request_id(request),
        )
    if tried.code in {"job_not_found", "batch_not_found"}:
        raise Http404
    if not tried.refused:
        access.say(request, access.WELL, f"{ref} is ended. What had not begun never will; what runs stops in seconds.")
    return redirect(kind, ref)


def _job_page(request: HttpRequest, ref: str, form: ReasonForm, *, status: int = 200) -> HttpResponse:
    try:
        row = _job(queue.job_of_anybody(ref))
    except JobNotFoundError as error:
        raise Http404 from error
    context = {"row": row, "form": form, "may_stop": access.may(request, Permission.QUEUE_MANAGE)}
    return render(request, "console/queue/job.html", context, status=status)


def _batch_page(request: HttpRequest, ref: str, form: ReasonForm, *, status: int = 200) -> HttpResponse:
    try:
        row = _batch(queue.batch_of_anybody(ref))
    except BatchNotFoundError as error:
        raise Http404 from error
    context = {"row": row, "form": form, "may_stop": access.may(request, Permission.QUEUE_MANAGE)}
    return render(request, "console/queue/batch.html", context, status=status)


def _job(row: queue.Waiting) -> dict[str, Any]:
    state = row.job.state
    stopping = state == "running" and row.job.cancel_requested
    word = "Stopping" if stopping else WORDS.get(state, state)
    return {"job": row.job, "place": row.place, "level": LEVELS.get(state, "unknown"), "word": word}


def _batch(row: queue.BatchView) -> dict[str, Any]:
    level = BATCH_LEVELS.get(row.state, "unknown")
    return {"batch": row, "level": level, "word": BATCH_WORDS.get(row.state, row.state)}


def _context(request: HttpRequest) -> dict[str, object]:
    running, next_up = queue.head()
    return {
        "line": queue.line(),
        "paused": queue.pause(),
        "batches": [_batch(row) for row in queue.open_batches()],
        "running": running,
        "next_up": next_up,
        "may_manage": access.may(request, Permission.QUEUE_MANAGE),
        "as_of": timezone.now(),
    }
