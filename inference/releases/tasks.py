"""The bell of an import, and the sweep for what a lost bell left behind. The work itself is in `services`."""

from __future__ import annotations

import logging

from celery import shared_task
from kombu.exceptions import OperationalError

from inference.releases import services

log = logging.getLogger(__name__)


@shared_task
def run_import(import_id: int) -> None:
    """Do one import; a bell that rings twice does it once."""
    services.run_import(import_id)


@shared_task
def sweep() -> None:
    """End or re-queue what lost its worker, and ring again for what nobody took."""
    for import_id in services.sweep_imports():
        ring(import_id)


def ring(import_id: int) -> None:
    """Wake a worker for this import; a broker that is away costs one turn of the sweep, not the import."""
    try:
        run_import.delay(import_id)
    except OperationalError:
        log.warning("import_bell_lost", extra={"import": import_id})
