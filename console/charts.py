"""A line over time as points for an inline drawing; pure. Decides scale and gaps; the template decides the look.

- The line breaks where a value is missing or where more than one gap's time passed: never a line through nothing.
- The scale starts at zero and holds the threshold, so that two cards can be compared by eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

WIDTH, HEIGHT = 300, 96
_FEWEST_POINTS = 2


@dataclass(frozen=True)
class Chart:
    """What the template draws: polylines in a 300 by 96 box, and the words around them."""

    title: str
    unit: str
    last: float | None
    top: int
    lines: tuple[str, ...]
    limit_y: float | None
    limit: int | None
    since: datetime | None
    until: datetime | None


def line(
    title: str,
    unit: str,
    points: Sequence[tuple[datetime, float | None]],
    *,
    top: int,
    limit: int | None = None,
    gap: timedelta = timedelta(seconds=30),
    within: tuple[datetime, datetime] | None = None,
) -> Chart:
    """A chart of values over time, from the first to the last or over a given time; fewer than two draw nothing."""
    known = [(at, value) for at, value in points if value is not None]
    highest = max([float(top), *(value for _, value in known)])
    runs: list[list[str]] = []
    if len(known) >= _FEWEST_POINTS:
        first, last = within or (known[0][0], known[-1][0])
        width = (last - first).total_seconds() or 1.0
        before: datetime | None = None
        for at, value in points:
            if value is None:
                before = None
                continue
            if before is None or at - before > gap:
                runs.append([])
            x = WIDTH * max(0.0, (at - first).total_seconds()) / width
            runs[-1].append(f"{x:.1f},{HEIGHT - HEIGHT * value / highest:.1f}")
            before = at
    return Chart(
        title=title,
        unit=unit,
        last=known[-1][1] if known else None,
        top=round(highest),
        lines=tuple(" ".join(run) for run in runs),
        limit_y=HEIGHT - HEIGHT * limit / highest if limit else None,
        limit=limit,
        since=within[0] if within else known[0][0] if known else None,
        until=within[1] if within else known[-1][0] if known else None,
    )
