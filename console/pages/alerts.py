"""Alerts: what is wrong now, since when, and who has it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts.permissions import Permission
from appliance.alerts import selectors as alerts
from appliance.alerts import services as alerting
from console import access


@access.requires(Permission.ALERT_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Open first, by urgency; then what is over."""
    context = {
        "standing": alerts.standing(),
        "closed": [alert for alert in alerts.recent() if not alert.is_open],
        "may_acknowledge": access.may(request, Permission.ALERT_ACKNOWLEDGE),
    }
    return render(request, "console/alerts/list.html", context)


@access.requires(Permission.ALERT_ACKNOWLEDGE)
@require_POST
@access.takes()
def acknowledge(request: HttpRequest, alert_id: int) -> HttpResponse:
    """Take an alert on; it stays open until the fault is over."""
    with access.attempt(request, target=f"alert:{alert_id}") as tried:
        alerting.acknowledge(actor=access.actor(request), alert_id=alert_id)
    if not tried.refused:
        access.say(request, access.WELL, "You have taken this alert on. It closes by itself when the fault is over.")
    return redirect("alerts")
