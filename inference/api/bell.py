"""Rings for a worker when a job was accepted. A bell that nobody hears costs seconds: the sweep finds the row.

Never waited for, never failing a request: Redis may be slow, full or gone while jobs are accepted.
"""

from __future__ import annotations

import logging
import queue
import threading

from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

from inference.api import expanding
from inference.queue import tasks

log = logging.getLogger(__name__)

_MOST_WAITING = 1000


class Bell:
    """One thread with a short list of what to ring for; more than that is left to the sweep."""

    def __init__(self) -> None:
        self._refs: queue.Queue[tuple[str, bool] | None] = queue.Queue(maxsize=_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._thread.start()

    def ring(self, ref: str) -> None:
        """For a job. Returns at once, always."""
        self._put(ref, whole=False)

    def ring_batch(self, ref: str) -> None:
        """For a batch, to be read. Returns at once, always."""
        self._put(ref, whole=True)

    def _put(self, ref: str, *, whole: bool) -> None:
        try:
            self._refs.put_nowait((ref, whole))
        except queue.Full:
            log.warning("bell_full")

    def close(self) -> None:
        """Let the thread end when it gets there; what it has not rung for, the sweep will."""
        try:
            self._refs.put_nowait(None)
        except queue.Full:
            log.warning("bell_full")

    def _run(self) -> None:
        while (rung := self._refs.get()) is not None:
            ref, whole = rung
            try:
                if whole:
                    expanding.ring(ref)
                else:
                    tasks.ring(ref)
            except (KombuError, CeleryError, OSError) as error:
                log.warning("bell_unheard", extra={"error_type": type(error).__name__})
