"""A card's past: averages that say what the samples said, gaps that stay gaps, and a year that fits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from inference.telemetry import rules, selectors, services
from inference.telemetry.models import Gpu, Rollup, Sample

pytestmark = pytest.mark.django_db

CARD = rules.Card(uuid="GPU-1", index=0, name="H200", serial="1", pci="00:10", memory_total=200)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def store(at: datetime, **values: int | None) -> None:
    services.store(cards=[CARD], readings=[rules.Reading(uuid=CARD.uuid, at=at, **values)], at=at)


def rolled(span: int) -> list[tuple[Any, ...]]:
    rows = Rollup.objects.filter(span=span).order_by("at")
    return [(r.at, r.readings, r.temperature_min, r.temperature_avg, r.temperature_max) for r in rows]


def test_a_minute_keeps_the_least_the_average_and_the_most_and_is_kept_once() -> None:
    for second, degrees in ((0, 40), (20, 50), (40, 90), (60, 10)):
        store(NOON + timedelta(seconds=second), temperature_c=degrees)

    services.roll_up(now=NOON + timedelta(seconds=70))
    services.roll_up(now=NOON + timedelta(seconds=75))

    assert rolled(60) == [(NOON, 3, 40, 60.0, 90)], "the second minute is not over"
    services.roll_up(now=NOON + timedelta(seconds=121))
    assert rolled(60)[1:] == [(NOON + timedelta(minutes=1), 1, 10, 10.0, 10)]


def test_an_hour_weighs_each_minute_by_its_readings_and_unknown_counts_for_nothing() -> None:
    for second in range(3):
        store(NOON + timedelta(seconds=second), temperature_c=40)
    store(NOON + timedelta(minutes=30), temperature_c=80)
    store(NOON + timedelta(minutes=40), temperature_c=None)

    services.roll_up(now=NOON + timedelta(hours=1, seconds=1))

    assert rolled(3600) == [(NOON, 5, 40, pytest.approx(50.0), 80)]


def test_what_was_never_known_stays_unknown() -> None:
    store(NOON, temperature_c=None)
    services.roll_up(now=NOON + timedelta(minutes=1))
    assert rolled(60) == [(NOON, 1, None, None, None)]


def test_each_average_lives_its_time() -> None:
    store(NOON)
    gpu = Gpu.objects.get()
    for span, life in services.samples.LIVES.items():
        for age in (life + timedelta(minutes=1), life - timedelta(minutes=1)):
            Rollup.objects.create(gpu=gpu, span=span, at=NOON - age, readings=1)
    services.prune(now=NOON)
    assert sorted(Rollup.objects.values_list("span", flat=True)) == [60, 600, 3600]


def test_a_window_is_drawn_from_its_averages_and_a_gap_stays_one() -> None:
    now = timezone.now().replace(second=0, microsecond=0)
    for minutes in (50, 49, 20, 19):
        store(now - timedelta(minutes=minutes), temperature_c=40 + minutes, power_mw=1500)
    services.roll_up(now=timezone.now())

    window = selectors.WINDOWS["hour"]
    (points,) = selectors.history(window).values()

    assert [point.temperature.average for point in points] == [90, 89, 60, 59]
    assert points[2].at - points[1].at > window.gap
    assert points[0].power_w.most == 1.5


def test_the_averages_of_a_year_are_drawn_by_the_day() -> None:
    store(NOON)
    gpu = Gpu.objects.get()
    day = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=100)
    for hour, (least, average, most) in enumerate([(20, 30, 40), (10, 50, 90)]):
        Rollup.objects.create(
            gpu=gpu, span=3600, at=day + timedelta(hours=hour), readings=10,
            temperature_min=least, temperature_avg=average, temperature_max=most,
        )  # fmt: skip
    (points,) = selectors.history(selectors.WINDOWS["year"]).values()
    (point,) = points
    assert point.temperature == selectors.Spread(10, 40, 90)


MIB = 1024 * 1024


def test_a_year_of_eight_cards_stays_under_two_hundred_megabytes() -> None:
    """Raw samples of a day, minutes of a week, tens of minutes of a month, hours of a year; `pytest -s` prints it."""
    now = timezone.now()
    for index in range(8):
        card = rules.Card(f"GPU-{index}", index, "H200", str(index), f"0000:{index:02x}:00", 150_000_000_000)
        services.store(cards=[card], readings=[rules.Reading(uuid=card.uuid, at=now)], at=now)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO telemetry_sample (gpu_id, at, utilisation_percent, memory_used, temperature_c, power_mw,
                power_limit_mw, clock_sm_mhz, clock_memory_mhz, ecc_corrected, ecc_uncorrected, throttle, energy_mj)
            SELECT g.id, %(now)s - s * interval '1 second', s %% 100, 120000000000 + s, 40 + s %% 40, 300000 + s, 700000,
                1980, 3201, 0, 0, 1, 987654321 + s
            FROM generate_series(1, 86400) s, telemetry_gpu g ORDER BY s DESC
            """,
            {"now": now},
        )
        for span, life in services.samples.LIVES.items():
            cursor.execute(
                """
                INSERT INTO telemetry_rollup (gpu_id, span, at, readings, utilisation_min, utilisation_avg,
                    utilisation_max, memory_min, memory_avg, memory_max, temperature_min, temperature_avg,
                    temperature_max, power_min, power_avg, power_max)
                SELECT g.id, %(span)s, %(now)s - s * make_interval(secs => %(span)s), %(span)s, 0, 50.5, 100,
                    120000000000, 120000000000.5, 120000000000, 40, 55.5, 80, 300000, 400000.5, 700000
                FROM generate_series(1, %(rows)s) s, telemetry_gpu g ORDER BY s DESC
                """,
                {"now": now, "span": span, "rows": int(life.total_seconds()) // span},
            )
        cursor.execute("SELECT pg_total_relation_size('telemetry_sample'), pg_total_relation_size('telemetry_rollup')")
        samples, rollups = cursor.fetchone()
    print(f"samples {samples / MIB:.0f} MiB ({Sample.objects.count()}), averages {rollups / MIB:.0f} MiB")  # noqa: T201 - the figure
    assert samples + rollups < 200_000_000
