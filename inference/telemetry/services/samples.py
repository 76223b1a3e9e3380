"""Keep what the sampler saw: samples for a day, minutes for a week, ten minutes for a month, hours for a year.

Reading the cards is nvml.py's; what a reading means is in rules. Alerts are the audited acts; samples are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from appliance.alerts import services as alerts
from appliance.alerts.rules import Severity
from appliance.audit.services import unaudited
from inference.telemetry import rules, selectors
from inference.telemetry.models import Gpu, GpuHealth, Pulse, Rollup, Sample

RAW_SAMPLES_LIVE = timedelta(days=1)

# How long each span lives, in seconds of the span; each is made of the one before it.
MINUTE, TEN_MINUTES, HOUR = 60, 600, 3600
LIVES = {MINUTE: timedelta(days=7), TEN_MINUTES: timedelta(days=31), HOUR: timedelta(days=366)}
_MEASURES = {
    "utilisation": "utilisation_percent",
    "memory": "memory_used",
    "temperature": "temperature_c",
    "power": "power_mw",
}
_EPOCH = "TIMESTAMPTZ '2000-01-01 00:00:00+00'"


@unaudited("a measurement every second is nobody's act; what it leads to is an alert, and that is recorded")
@transaction.atomic
def store(*, cards: Sequence[rules.Card], readings: Sequence[rules.Reading], at: datetime) -> None:
    """Bring the inventory up to date and add one sample per card that answered."""
    answered = {reading.uuid for reading in readings}
    rows = [Gpu(**asdict(card), first_seen=at, last_seen=at) for card in cards if card.uuid in answered]
    Gpu.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["uuid"],
        update_fields=["index", "name", "serial", "pci", "memory_total", "last_seen"],
    )
    numbers = dict(Gpu.objects.filter(uuid__in=answered).values_list("uuid", "pk"))
    samples = []
    for reading in readings:
        values = asdict(reading)
        samples.append(Sample(gpu_id=numbers[values.pop("uuid")], **values))
    Sample.objects.bulk_create(samples)


@unaudited("the sampler's own pulse; its silence is what the console shows")
def beat(
    *,
    at: datetime,
    started_at: datetime,
    driver: str,
    present: int,
    expected: int,
    reason: str,
    library: str = "",
    deaf: str = "",
) -> None:
    """Say that the sampler lives, and what it sees; `deaf` is why it does not hear the kernel log."""
    Pulse.objects.update_or_create(
        id=1,
        defaults={
            "at": at,
            "started_at": started_at,
            "driver": driver,
            "library": library,
            "deaf": deaf[:300],
            "present": present,
            "expected": expected,
            "reason": reason[:300],
        },
    )


@unaudited("counters every ten seconds are nobody's act; what they lead to is an alert, and that is recorded")
@transaction.atomic
def keep_health(*, health: Sequence[rules.Health]) -> None:
    """Replace what was last known of each card's slow counters."""
    numbers = dict(Gpu.objects.filter(uuid__in=[item.uuid for item in health]).values_list("uuid", "pk"))
    for item in health:
        if item.uuid not in numbers:
            continue
        values = asdict(item)
        del values["uuid"]
        if item.processes is not None:
            values["processes"] = [[process.pid, process.memory] for process in item.processes]
        GpuHealth.objects.update_or_create(gpu_id=numbers[item.uuid], defaults=values)


@unaudited("raw samples past their day, and averages past theirs; the alerts they led to stay")
def prune(*, now: datetime) -> int:
    """Delete raw samples older than a day and averages older than their time. Returns how many raw ones."""
    deleted, _ = Sample.objects.filter(at__lt=now - RAW_SAMPLES_LIVE).delete()
    for span, life in LIVES.items():
        Rollup.objects.filter(span=span, at__lt=now - life).delete()
    return deleted


@unaudited("averages of measurements; nobody's act")
@transaction.atomic
def roll_up(*, now: datetime) -> None:
    """Add the minutes, tens of minutes and hours that are over. Safe to run at any moment and twice."""
    _roll(MINUTE, _of_samples(), now)
    _roll(TEN_MINUTES, _of_rollups(MINUTE), now)
    _roll(HOUR, _of_rollups(TEN_MINUTES), now)


@unaudited("alerts.open_ and alerts.close record each one, as this actor")
def watch_sampler(*, actor: str) -> None:
    """A sampler that says nothing cannot tell so itself: whoever looks at the clock tells it."""
    sampler = selectors.sampler()
    if sampler.alive or settings.SITE.expected_gpus == 0:
        alerts.close(actor=actor, key=rules.SILENT, reason="the sampler speaks again")
        return
    alerts.open_(
        actor=actor,
        key=rules.SILENT,
        severity=Severity.CRITICAL,
        title="GPUs are not being watched",
        detail="The sampler is silent: look at its service (sample_gpus). A driver that hangs needs a restart of the machine.",
    )


def _roll(span: int, source: str, now: datetime) -> None:
    """The periods of this length that ended since the last one kept. A period is added once and stays as it is."""
    names = [f"{name}_{part}" for name in _MEASURES for part in ("min", "avg", "max")]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO telemetry_rollup (gpu_id, span, at, readings, {", ".join(names)})
            SELECT gpu_id, %(span)s, date_bin(make_interval(secs => %(span)s), at, {_EPOCH}) AS bin, {source}
              AND at >= COALESCE((SELECT max(r.at) + make_interval(secs => %(span)s) FROM telemetry_rollup r WHERE r.span = %(span)s),
                                 {_EPOCH})
              AND at < date_bin(make_interval(secs => %(span)s), %(now)s, {_EPOCH})
            GROUP BY gpu_id, bin
            ON CONFLICT DO NOTHING
            """,  # noqa: S608 - column names of this file alone; every value is a parameter
            {"span": span, "now": now},
        )


def _of_samples() -> str:
    parts = [f"min({column}), avg({column}), max({column})" for column in _MEASURES.values()]
    return f"count(*), {', '.join(parts)} FROM telemetry_sample WHERE true"


def _of_rollups(span: int) -> str:
    """An average of averages, each counted as often as it had readings."""
    parts = [
        f"min({name}_min), sum({name}_avg * readings) / NULLIF(sum(readings) FILTER "
        f"(WHERE {name}_avg IS NOT NULL), 0), max({name}_max)"
        for name in _MEASURES
    ]
    return f"sum(readings), {', '.join(parts)} FROM telemetry_rollup WHERE span = {span}"
