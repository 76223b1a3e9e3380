"""Reads of a card's past: an hour and a day, a month and a year, each from the averages kept for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone


@dataclass(frozen=True)
class Window:
    """How far back a chart looks, from averages over which span, and how long each of its points is."""

    name: str
    label: str
    back: timedelta
    span: int
    step: timedelta

    @property
    def gap(self) -> timedelta:
        """A line breaks where more than this passed without a value."""
        return self.step * 3 / 2


@dataclass(frozen=True)
class Spread:
    """The least, the average and the most over one period; None is unknown."""

    least: float | None
    average: float | None
    most: float | None


@dataclass(frozen=True)
class Point:
    """A card over one period."""

    at: datetime
    temperature: Spread
    power_w: Spread
    utilisation: Spread
    memory: Spread


WINDOWS: Mapping[str, Window] = {
    window.name: window
    for window in (
        Window("hour", "Hour", timedelta(hours=1), 60, timedelta(minutes=1)),
        Window("day", "Day", timedelta(days=1), 600, timedelta(minutes=10)),
        Window("month", "Month", timedelta(days=30), 3600, timedelta(hours=3)),
        Window("year", "Year", timedelta(days=365), 3600, timedelta(days=1)),
    )
}
_MEASURES = ("temperature", "power", "utilisation", "memory")
_SPREADS = ", ".join(
    f"min({name}_min), sum({name}_avg * readings) / NULLIF(sum(readings) FILTER (WHERE {name}_avg IS NOT NULL), 0), "
    f"max({name}_max)"
    for name in _MEASURES
)
_FIND = f"""
    SELECT g.uuid, date_bin(make_interval(secs => %(step)s), r.at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bin, {_SPREADS}
    FROM telemetry_rollup r JOIN telemetry_gpu g ON g.id = r.gpu_id
    WHERE r.span = %(span)s AND r.at >= %(since)s
    GROUP BY g.uuid, bin ORDER BY g.uuid, bin
"""  # noqa: S608 - column names of this file alone; every value is a parameter


def history(window: Window) -> Mapping[str, tuple[Point, ...]]:
    """The points of each card within the window, oldest first; where nothing was read there is none."""
    found: dict[str, list[Point]] = {}
    with connection.cursor() as cursor:
        since = timezone.now() - window.back
        cursor.execute(_FIND, {"step": window.step.total_seconds(), "span": window.span, "since": since})
        for uuid, at, *values in cursor.fetchall():
            found.setdefault(uuid, []).append(_point(at, values))
    return {uuid: tuple(points) for uuid, points in found.items()}


def _point(at: datetime, values: list[float | None]) -> Point:
    temperature, power, utilisation, memory = (
        Spread(*(None if value is None else float(value) for value in values[start : start + 3]))
        for start in range(0, 12, 3)
    )
    watts = Spread(*(None if value is None else value / 1000 for value in (power.least, power.average, power.most)))
    return Point(at, temperature, watts, utilisation, memory)
