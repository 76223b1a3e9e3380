"""GPUs: can I trust this card? What is expected and present, how each card is, what is done about its faults, and its past.

Nothing is decided here: a hold is telemetry's policy, letting a card work again is its check, and a line of the policy
changes by a change that others approve.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts.permissions import Permission
from appliance.alerts.rules import Alert, Severity
from console import access, charts, current
from inference.telemetry import rules
from inference.telemetry import selectors as telemetry
from inference.telemetry import services as acting

_ROWS = 12
NOW = "now"


class PolicyForm(forms.Form):
    """One line of the policy, otherwise."""

    fault = forms.ChoiceField(label="Kind of fault", choices=[(kind.value, kind.label) for kind in rules.FaultClass])
    action = forms.ChoiceField(label="What is to be done", choices=[(act.value, act.label) for act in rules.Action])
    reason = forms.CharField(label="Reason", max_length=2000, widget=forms.Textarea(attrs={"rows": 2}))


@dataclass(frozen=True)
class Number:
    """One row of the table beneath the charts."""

    at: datetime
    temperature: str
    power: str
    utilisation: str


@dataclass(frozen=True)
class CardPanel:
    """One card with its drawings and what stands against it."""

    view: telemetry.CardView
    charts: tuple[charts.Chart, ...]
    numbers: tuple[Number, ...]
    alerts: tuple[Alert, ...]

    @property
    def level(self) -> str:
        """Absent, held or with a critical alert is failed; another alert is degraded; otherwise well."""
        critical = any(alert.severity is Severity.CRITICAL for alert in self.alerts)
        if not self.view.present or self.view.held or critical:
            return "failed"
        return "degraded" if self.alerts else "well"

    @property
    def word(self) -> str:
        """The same in a word."""
        if not self.view.present:
            return "Missing"
        if self.view.held:
            return self.view.held.value.capitalize()
        return {"failed": "Needs you now", "degraded": "Needs a look", "well": "Well"}[self.level]

    @property
    def quarantined(self) -> bool:
        return self.view.held is rules.Hold.QUARANTINED

    @property
    def held_by(self) -> tuple[str, ...]:
        """What holds the clocks down; a card that idles is held by nothing."""
        latest = self.view.latest
        return tuple(reason for reason in (latest.throttle_reasons if latest else ()) if reason != "idle")

    @property
    def energy_kwh(self) -> float | None:
        """Since the driver was loaded; NVML counts in millijoules."""
        latest = self.view.latest
        return latest.energy_mj / 3.6e9 if latest and latest.energy_mj is not None else None


@access.requires(Permission.GPU_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Every card ever seen, present ones first; then the faults reported, and what is done about each kind."""
    context = _context(request) | {
        "policy_form": PolicyForm() if access.may(request, Permission.CHANGE_PROPOSE) else None,
    }
    return render(request, "console/gpus/list.html", context)


@access.requires(Permission.GPU_VIEW)
@require_GET
def live(request: HttpRequest) -> HttpResponse:
    """The moving part of that page."""
    return render(request, "console/gpus/_cards.html", _context(request))


@access.requires(Permission.GPU_REQUALIFY)
@require_POST
@access.takes()
def requalify(request: HttpRequest, uuid: str) -> HttpResponse:
    """Let a quarantined card work again, if the check finds nothing."""
    with access.attempt(request, target=f"gpu:{uuid}") as tried:
        acting.requalify(actor=access.actor(request), uuid=uuid)
    if not tried.refused:
        access.say(request, access.WELL, "The check found nothing. The card takes work again.")
    return redirect("gpus")


@access.requires(Permission.ALERT_ACKNOWLEDGE)
@require_POST
@access.takes()
def acknowledge(request: HttpRequest, event_id: int) -> HttpResponse:
    """Somebody has looked at a fault report."""
    with access.attempt(request, target=f"gpu-event:{event_id}") as tried:
        acting.acknowledge_event(actor=access.actor(request), event_id=event_id)
    if not tried.refused:
        access.say(
            request, access.WELL, "You have looked at this report. A quarantined card waits for its requalifying."
        )
    return redirect("gpus")


@access.requires(Permission.CHANGE_PROPOSE)
@require_POST
@access.takes(PolicyForm)
def propose(request: HttpRequest) -> HttpResponse:
    """Propose another line of the policy; others approve it."""
    form = PolicyForm(request.POST)
    if not form.is_valid():
        access.say(request, access.FAILED, "Choose a kind of fault and an action, and say why. Nothing was proposed.")
        return redirect("gpus")
    change_id = 0
    with access.attempt(request, target=f"gpu-policy:{form.cleaned_data['fault']}"):
        change_id = acting.propose_policy(actor=access.actor(request), **form.cleaned_data)
    return redirect("change", change_id) if change_id else redirect("gpus")


def _context(request: HttpRequest) -> dict[str, object]:
    standing = [alert for alert in current.of(request).alerts if alert.key.startswith((rules.PREFIX, rules.SILENT))]
    window = telemetry.WINDOWS.get(request.GET.get("window", ""))
    past = telemetry.history(window) if window else {}
    views, sampler, policy = telemetry.cards(), telemetry.sampler(), telemetry.policy_lines()
    return {
        "critical": any(alert.severity is Severity.CRITICAL for alert in standing),
        "sampler": sampler,
        "panels": [_panel(view, standing, window, past.get(view.card.uuid, ())) for view in views],
        "held": [view for view in views if view.held],
        "standing": standing,
        "events": telemetry.events(limit=25),
        "policy": policy,
        "actions": {item.fault.value: item.line.action.label for item in policy},
        "windows": [(NOW, "Five minutes"), *((item.name, item.label) for item in telemetry.WINDOWS.values())],
        "window": window.name if window else NOW,
        "may_requalify": access.may(request, Permission.GPU_REQUALIFY),
        "may_acknowledge": access.may(request, Permission.ALERT_ACKNOWLEDGE),
        "as_of": timezone.now(),
    }


def _panel(
    view: telemetry.CardView,
    standing: list[Alert],
    window: telemetry.Window | None,
    past: tuple[telemetry.Point, ...],
) -> CardPanel:
    mine = tuple(alert for alert in standing if view.card.uuid in alert.key)
    if window is None:
        return CardPanel(view, _charts_now(view), _numbers_now(view.history), mine)
    return CardPanel(view, _charts_then(view, window, past), _numbers_then(past), mine)


def _charts_now(view: telemetry.CardView) -> tuple[charts.Chart, ...]:
    history = view.history
    power = [(r.at, r.power_mw / 1000 if r.power_mw is not None else None) for r in history]
    return (
        charts.line(
            "Temperature", "°C", [(r.at, r.temperature_c) for r in history], top=100, limit=rules.Thresholds().warm_c
        ),
        charts.line("Power", "W", power, top=_power_top(view)),
        charts.line("In use", "%", [(r.at, r.utilisation_percent) for r in history], top=100),
    )


def _charts_then(
    view: telemetry.CardView, window: telemetry.Window, past: tuple[telemetry.Point, ...]
) -> tuple[charts.Chart, ...]:
    """Averages; the table beneath has the extremes as well."""
    now = timezone.now()
    whole = {"gap": window.gap, "within": (now - window.back, now)}
    heat, power = [(p.at, p.temperature.average) for p in past], [(p.at, p.power_w.average) for p in past]
    return (
        charts.line("Temperature", "°C", heat, top=100, limit=rules.Thresholds().warm_c, **whole),  # type: ignore[arg-type]  # two named values
        charts.line("Power", "W", power, top=_power_top(view), **whole),  # type: ignore[arg-type]  # as above
        charts.line("In use", "%", [(p.at, p.utilisation.average) for p in past], top=100, **whole),  # type: ignore[arg-type]  # as above
    )


def _power_top(view: telemetry.CardView) -> int:
    return max([(reading.power_limit_mw or 0) // 1000 for reading in view.history] or [0]) or 100


def _numbers_now(history: tuple[rules.Reading, ...]) -> tuple[Number, ...]:
    """The drawn values as a table, newest first and thinned to what a person reads."""
    thin = history[:: max(1, len(history) // _ROWS)]
    return tuple(
        Number(
            r.at,
            _said(r.temperature_c, "°C"),
            _said(None if r.power_mw is None else r.power_mw / 1000, "W"),
            _said(r.utilisation_percent, "%"),
        )
        for r in reversed(thin)
    )


def _numbers_then(past: tuple[telemetry.Point, ...]) -> tuple[Number, ...]:
    thin = past[:: max(1, len(past) // (2 * _ROWS))]
    return tuple(
        Number(p.at, _spread(p.temperature, "°C"), _spread(p.power_w, "W"), _spread(p.utilisation, "%"))
        for p in reversed(thin)
    )


def _said(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.0f} {unit}"


def _spread(spread: telemetry.Spread, unit: str) -> str:
    """Average, and the least and most in brackets."""
    if spread.average is None:
        return "unknown"
    return f"{spread.average:.0f} {unit} ({spread.least:.0f} to {spread.most:.0f})"
