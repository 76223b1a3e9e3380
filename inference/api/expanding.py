"""Celery's side of the door: a batch that was accepted becomes jobs, in a worker instead of among the people who wait.

What a line may hold is the door's (`lines`), so the task stands here and not with the queue's own.
"""

from __future__ import annotations

import logging

from celery import shared_task
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

from inference.api import lines
from inference.queue import services, tasks

log = logging.getLogger(__name__)

_READER = "queue-reader"


@shared_task(name="inference.api.expanding.expand", ignore_result=True, acks_late=True)
def expand(ref: str) -> None:
    """Read a batch's file and make its jobs; then ring for the first slice."""
    if services.expand_batch(actor=_READER, ref=ref, read=lines.read):
        try:
            tasks.ring_slice(ref, 0)
        except (KombuError, CeleryError, OSError) as error:
            log.warning("bell_unheard", extra={"error_type": type(error).__name__})


@shared_task(name="inference.api.expanding.sweep", ignore_result=True)
def sweep() -> None:
    """Ring again for batches that nobody has read."""
    for ref in services.unread_batches():
        ring(ref, expires_s=30)


def ring(ref: str, *, expires_s: int = 300) -> None:
    """Tell a worker. An old bell is no use: the sweep rings a new one."""
    expand.apply_async((ref,), expires=expires_s, retry=False)
