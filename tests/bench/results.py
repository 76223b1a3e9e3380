"""var/bench/<name>.json: one run, with every repetition in it, and what was concluded.

Decides: the file's shape. `ratios`, `goals`, `n` and `machine` are the conclusions and their conditions; `repetitions`
is what they were drawn from. Leaves to others: the arithmetic (judge.py) and the page (report.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from tests.bench.judge import Goal, Repetition, verdict, void
from tests.bench.site import BASE


def judged(
    name: str,
    repetitions: Sequence[Repetition],
    goals: Sequence[Goal],
    *,
    control: str,
    machine: dict[str, Any],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    voids = void(repetitions, control=control, figure="cpu_us")
    return {
        "name": name,
        **verdict(repetitions, goals, voids),
        "machine": machine,
        "notes": list(notes),
        "repetitions": [{**found, "void": why} for found, why in zip(repetitions, voids, strict=True)],
    }


def add(found: dict[str, Any], repetitions: Sequence[Repetition], goals: Sequence[Goal]) -> None:
    """A part with repetitions of its own; none of them has a control arm."""
    voids = void(repetitions, control="", figure="")
    part = verdict(repetitions, goals, voids)
    found["ratios"] |= part["ratios"]
    found["goals"] |= part["goals"]
    found["repetitions"] += [{**one, "void": why} for one, why in zip(repetitions, voids, strict=True)]


def write(found: dict[str, Any]) -> None:
    path = BASE / f"{found['name']}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    lines = [f"\n{path}: {found['n']} repetitions"]
    for name, ratio in found["ratios"].items():
        goal = found["goals"].get(name)
        mark = "     " if goal is None else "met  " if goal["met"] else "MISS "
        wanted = f" ({goal['wanted']})" if goal else ""
        lines.append(
            f"  {mark}{name:22} median {ratio['median']:<9g} worst {ratio['worst']:<9g} n {ratio['n']}{wanted}  {ratio['says']}"
        )
    lines += [f"  void: {load}: {why}" for one in found["repetitions"] for load, why in one["void"].items()]
    lines += [f"  {note}" for note in found["notes"]]
    sys.stdout.write("\n".join(lines) + "\n")
