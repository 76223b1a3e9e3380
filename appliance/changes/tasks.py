"""The sweep that carries out what a crash left approved."""

from __future__ import annotations

from celery import shared_task

from appliance.changes import selectors, services


@shared_task(ignore_result=True)
def execute_approved() -> None:
    """Carry out every approved change; each in its own transaction."""
    for change_id in selectors.approved_ids():
        services.execute(actor="system:sweep", change_id=change_id)
