"""Alerts: what is wrong now, since when, who has it, and whom it was told."""

from __future__ import annotations

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from appliance.accounts.permissions import Permission
from appliance.alerts import selectors as alerts
from appliance.alerts import services as alerting
from appliance.alerts.errors import NoSuchAlertError
from appliance.alerts.services import channels
from console import access, current

_HOURS = [(1, "1 hour"), (4, "4 hours"), (12, "12 hours"), (24, "1 day"), (72, "3 days"), (168, "7 days")]


class SilenceForm(forms.Form):
    """For how long nobody is told, and why."""

    hours = forms.TypedChoiceField(label="For", choices=_HOURS, coerce=int, initial=4)
    reason = forms.CharField(label="Reason", max_length=300, widget=forms.Textarea(attrs={"rows": 2}))


@access.requires(Permission.ALERT_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Open first, by urgency; then where it was told; then what is over."""
    context = _context(request) | {
        "channels": alerts.channels(),
        "deliveries": alerts.deliveries(),
        "closed": [alert for alert in alerts.recent() if not alert.is_open],
        "may_test": access.may(request, Permission.ALERT_TEST),
    }
    return render(request, "console/alerts/list.html", context)


@access.requires(Permission.ALERT_VIEW)
@require_GET
def live(request: HttpRequest) -> HttpResponse:
    """The moving part of that page."""
    return render(request, "console/alerts/_standing.html", _context(request))


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


@access.requires(Permission.ALERT_SILENCE)
@require_http_methods(["GET", "POST"])
@access.takes(SilenceForm)
def silence(request: HttpRequest, alert_id: int) -> HttpResponse:
    """Tell nobody of it for a while; it stays on the page."""
    form = SilenceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with access.attempt(request, target=f"alert:{alert_id}") as tried:
            alerting.silence(actor=access.actor(request), alert_id=alert_id, **form.cleaned_data)
        if not tried.refused:
            access.say(request, access.WELL, "Nobody is told of this alert until the silence ends. It stays listed.")
        return redirect("alerts")
    try:
        context = {"alert": alerts.alert(alert_id), "form": form}
    except NoSuchAlertError:
        raise Http404 from None
    return render(request, "console/alerts/silence.html", context)


@access.requires(Permission.ALERT_TEST)
@require_POST
@access.takes()
def test_channel(request: HttpRequest, channel: str) -> HttpResponse:
    """Say a test there, and what came of it."""
    said = ""
    with access.attempt(request, target=f"channel:{channel}"):
        said = channels.test_channel(actor=access.actor(request), name=channel)
    if said:
        access.say(request, access.WELL, f"A test went out by {channel}: {said}.")
    return redirect("alerts")


def _context(request: HttpRequest) -> dict[str, object]:
    silences = alerts.silences()
    standing = current.of(request).alerts
    return {
        "standing": [{"alert": alert, "silence": silences.get(alert.key)} for alert in standing],
        "urgent": sum(1 for alert in standing if alert.severity.value == "critical"),
        "may_acknowledge": access.may(request, Permission.ALERT_ACKNOWLEDGE),
        "may_silence": access.may(request, Permission.ALERT_SILENCE),
        "as_of": timezone.now(),
    }
