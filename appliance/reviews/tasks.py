"""The watch over the date of the last review, run by beat."""

from __future__ import annotations

from celery import shared_task

from appliance.reviews import services


@shared_task(ignore_result=True)
def watch() -> None:
    """Open the alert that a missing review calls for, or close it."""
    services.watch(actor="system:reviews")
