"""The watch over refused attempts, run by beat. What it finds and does is in `services`."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from inference.clients import services

_WATCH = "attempts-watch"


@shared_task(name="inference.clients.tasks.watch_attempts", ignore_result=True)
def watch_attempts() -> None:
    """Open the alerts that the last ten minutes call for."""
    services.watch_attempts(actor=_WATCH, now=timezone.now())
