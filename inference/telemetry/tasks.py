"""What beat rings for: the averages of what was sampled, and the look at whether the sampler lives."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from inference.telemetry import services

_WATCH = "sampler-watch"


@shared_task(name="inference.telemetry.tasks.roll_up", ignore_result=True)
def roll_up() -> None:
    """Keep the minutes, tens of minutes and hours that are over."""
    services.roll_up(now=timezone.now())


@shared_task(name="inference.telemetry.tasks.watch_sampler", ignore_result=True)
def watch_sampler() -> None:
    """Ring when the GPUs are not being watched."""
    services.watch_sampler(actor=_WATCH)
