"""GPUs: can I trust this card? The inventory expected and present, and each card's pulse."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from appliance.accounts.permissions import Permission
from appliance.alerts import selectors as alerts
from appliance.alerts.rules import Alert, Severity
from console import access, charts
from inference.telemetry import rules
from inference.telemetry import selectors as telemetry

_ROWS = 12


@dataclass(frozen=True)
class CardPanel:
    """One card with its drawings and what stands against it."""

    view: telemetry.CardView
    charts: tuple[charts.Chart, ...]
    alerts: tuple[Alert, ...]

    @property
    def level(self) -> str:
        """Absent is failed, as is a critical alert; another alert is degraded; otherwise well."""
        if not self.view.present or any(alert.severity is Severity.CRITICAL for alert in self.alerts):
            return "failed"
        return "degraded" if self.alerts else "well"

    @property
    def word(self) -> str:
        """The same in a word."""
        if not self.view.present:
            return "Missing"
        return {"failed": "Needs you now", "degraded": "Needs a look", "well": "Well"}[self.level]

    @property
    def held_by(self) -> tuple[str, ...]:
        """What holds the clocks down; a card that idles is held by nothing."""
        latest = self.view.latest
        return tuple(reason for reason in (latest.throttle_reasons if latest else ()) if reason != "idle")

    @property
    def numbers(self) -> tuple[rules.Reading, ...]:
        """The drawn values as a table, newest first and thinned to what a person reads."""
        history = self.view.history
        return tuple(reversed(history[:: max(1, len(history) // _ROWS)]))


@access.requires(Permission.GPU_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Every card ever seen, present ones first."""
    return render(request, "console/gpus/list.html", _context())


@access.requires(Permission.GPU_VIEW)
@require_GET
def live(request: HttpRequest) -> HttpResponse:
    """The moving part of that page."""
    return render(request, "console/gpus/_cards.html", _context())


def _context() -> dict[str, object]:
    standing = alerts.standing()
    critical = any(alert.severity is Severity.CRITICAL and alert.key.startswith(rules.PREFIX) for alert in standing)
    return {
        "critical": critical,
        "sampler": telemetry.sampler(),
        "panels": [_panel(view, standing) for view in telemetry.cards()],
        "standing": [alert for alert in standing if alert.key.startswith(rules.PREFIX)],
        "as_of": timezone.now(),
    }


def _panel(view: telemetry.CardView, standing: tuple[Alert, ...]) -> CardPanel:
    limits = rules.Thresholds()
    history = view.history
    power_top = max([(reading.power_limit_mw or 0) // 1000 for reading in history] or [0]) or 100
    drawn = (
        charts.line("Temperature", "°C", [(r.at, r.temperature_c) for r in history], top=100, limit=limits.warm_c),
        charts.line(
            "Power",
            "W",
            [(r.at, r.power_mw / 1000 if r.power_mw is not None else None) for r in history],
            top=power_top,
        ),
        charts.line("In use", "%", [(r.at, r.utilisation_percent) for r in history], top=100),
    )
    return CardPanel(view, drawn, tuple(alert for alert in standing if view.card.uuid in alert.key))
