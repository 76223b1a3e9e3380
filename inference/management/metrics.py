"""The numbers Prometheus may ask for, read when it asks: cards, alerts, the queue, capacity.

- No label holds a name that somebody chose: cards by index and UUID, alerts by severity. Neither clients nor tasks are
  named, and nothing of a request is counted but how many wait.
- What a card does not report has no sample; it is never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.conf import settings
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.alerts import selectors as alerts
from appliance.alerts.rules import Severity
from inference.admission import pressure
from inference.admission.rules import Capacity
from inference.queue import selectors as queue
from inference.telemetry import selectors as telemetry
from inference.telemetry.selectors import CardView

CARD = ("gpu", "uuid")


def _milli(value: int | None) -> float | None:
    return None if value is None else value / 1000


# name, what it is, and where it is found
_CARD: tuple[tuple[str, str, Callable[[CardView], float | None]], ...] = (
    ("isoward_gpu_present", "Whether the card is read now.", lambda v: float(v.present)),
    ("isoward_gpu_held", "Whether the card is held from work.", lambda v: float(bool(v.held))),
    ("isoward_gpu_temperature_celsius", "Temperature.", lambda v: v.latest.temperature_c if v.latest else None),
    ("isoward_gpu_power_watts", "Power drawn.", lambda v: _milli(v.latest.power_mw) if v.latest else None),
    ("isoward_gpu_utilisation_percent", "Time in use.", lambda v: v.latest.utilisation_percent if v.latest else None),
    ("isoward_gpu_memory_used_bytes", "Memory in use.", lambda v: v.latest.memory_used if v.latest else None),
    ("isoward_gpu_memory_bytes", "Memory of the card.", lambda v: v.card.memory_total),
    (
        "isoward_gpu_energy_joules",
        "Energy since the driver was loaded.",
        lambda v: _milli(v.latest.energy_mj) if v.latest else None,
    ),
    (
        "isoward_gpu_memory_errors_uncorrected",
        "Uncorrected memory errors since the driver was loaded.",
        lambda v: v.latest.ecc_uncorrected if v.latest else None,
    ),
    (
        "isoward_gpu_memory_errors_uncorrected_lifetime",
        "Uncorrected memory errors in the card's life.",
        lambda v: v.health.ecc_uncorrected_total if v.health else None,
    ),
    ("isoward_gpu_nvlink_errors", "NVLink errors.", lambda v: v.health.nvlink_errors if v.health else None),
    ("isoward_gpu_pcie_replays", "PCIe replays.", lambda v: v.health.pcie_replays if v.health else None),
)


class Appliance(Collector):
    """Everything, read anew at each scrape."""

    def collect(self) -> Iterator[Metric]:
        yield from self._cards()
        yield from self._box()

    def _cards(self) -> Iterator[Metric]:
        views = telemetry.cards()
        for name, what, find in _CARD:
            family = GaugeMetricFamily(name, what, labels=CARD)
            for view in views:
                value = find(view)
                if value is not None:
                    family.add_metric([str(view.card.index), view.card.uuid], float(value))
            yield family

    def _box(self) -> Iterator[Metric]:
        sampler, line = telemetry.sampler(), queue.line()
        expected = settings.SITE.expected_gpus
        yield _one("isoward_gpus_expected", "Cards the site file expects.", expected)
        yield _one("isoward_sampler_alive", "Whether the GPUs are being watched.", sampler.alive)
        yield _one("isoward_queue_waiting", "Jobs that wait.", line.depth)
        yield _one("isoward_queue_running", "Jobs that run.", line.running)
        capacity = GaugeMetricFamily("isoward_capacity", "1 for what the box can do now.", labels=("capacity",))
        now = Capacity.under(pressure.read(expected=expected))
        for item in Capacity:
            capacity.add_metric([item.value], float(item is now))
        yield capacity
        open_ = GaugeMetricFamily("isoward_alerts_open", "Faults that stand.", labels=("severity",))
        standing = alerts.standing()
        for severity in Severity:
            open_.add_metric([severity.value], sum(1 for alert in standing if alert.severity is severity))
        yield open_


def _one(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=float(value))
