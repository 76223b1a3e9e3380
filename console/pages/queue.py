"""Queue: who waits, how long, and why. Counts and names only; what was asked is sealed and no page opens it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from appliance.accounts.permissions import Permission
from console import access
from inference.queue import selectors as queue

LEVELS = {"queued": "unknown", "running": "unknown", "succeeded": "well", "failed": "failed", "cancelled": "unknown"}
WORDS = {"queued": "Waiting", "running": "Running", "succeeded": "Done", "failed": "Failed", "cancelled": "Cancelled"}

BATCH_WORDS = {"validating": "Being read", "in_progress": "In progress", "cancelling": "Being cancelled"}


@access.requires(Permission.QUEUE_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """The line and its head, the batches, what runs, and the newest jobs."""
    return render(request, "console/queue/list.html", _context())


@access.requires(Permission.QUEUE_VIEW)
@require_GET
def live(request: HttpRequest) -> HttpResponse:
    """The same without the shell."""
    return render(request, "console/queue/_now.html", _context())


def _context() -> dict[str, object]:
    return {
        "line": queue.line(),
        "batches": [
            {"batch": batch, "word": BATCH_WORDS.get(batch.state, batch.state)} for batch in queue.open_batches()
        ],
        "running": queue.running(),
        "next_up": queue.next_up(),
        "recent": [
            {"job": job, "level": LEVELS.get(job.state, "unknown"), "word": WORDS.get(job.state, job.state)}
            for job in queue.recent()
        ],
        "as_of": timezone.now(),
    }
