"""Writes down that the sealed account has closed, run by beat; that it closes does not depend on this."""

from __future__ import annotations

from celery import shared_task

from appliance.emergency import services


@shared_task(ignore_result=True)
def sweep() -> None:
    """Close what is over."""
    services.sweep(actor="system:emergency")
