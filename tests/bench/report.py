"""`make bench-report`: write the tables of docs/performance.md from var/bench/*.json. No figure there is typed by hand.

Decides: what a reader sees of a run: goals first, then every arm under every load, then the machine. Leaves to others:
the words around the tables (they stand in the page) and the figures (judge.py).
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from provisioning.evaluation.site_file import REPOSITORY
from tests.bench.judge import Repetition, without
from tests.bench.site import BASE

PAGE = REPOSITORY / "docs" / "performance.md"
SHOWN = (
    ("rps", "answers/s", "{:,.0f}"),
    ("cpu_us", "CPU µs/answer", "{:,.0f}"),
    ("cpu_us_per_token", "CPU µs/event", "{:,.1f}"),
    ("first_us.p50", "first p50 µs", "{:,.0f}"),
    ("whole_us.p50", "whole p50 µs", "{:,.0f}"),
    ("whole_us.p99", "whole p99 µs", "{:,.0f}"),
    ("gap_us.p99", "added gap p99 µs", "{:,.0f}"),
    ("tokens_per_s", "tokens/s", "{:,.0f}"),
    ("postgres_cpu_us", "PostgreSQL µs/answer", "{:,.0f}"),
    ("rss_mib", "RSS MiB", "{:,.0f}"),
)


def main() -> int:
    for path in sorted(BASE.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if "ratios" not in found:
            continue
        text = PAGE.read_text(encoding="utf-8")
        begin, end = f"<!-- bench:{found['name']} -->", f"<!-- /bench:{found['name']} -->"
        if begin not in text or end not in text:
            sys.stderr.write(f"{PAGE} has no place for {found['name']}\n")
            return 1
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        PAGE.write_text(f"{head}{begin}\n{page(found)}{end}{tail}", encoding="utf-8")
        sys.stdout.write(f"{PAGE.relative_to(REPOSITORY)}: {found['name']}\n")
    return 0


def page(found: dict[str, Any]) -> str:
    """The generated part of the page for one run."""
    parts = [*_goals(found), "", *_loads(found), *_conditions(found)]
    return "\n".join(parts) + "\n"


def _goals(found: dict[str, Any]) -> Iterator[str]:
    yield "| | wanted | worst | median | n | |"
    yield "|---|---|---|---|---|---|"
    for name, ratio in found["ratios"].items():
        goal = found["goals"].get(name)
        mark = "" if goal is None else "met" if goal["met"] else "**missed**"
        wanted = goal["wanted"] if goal else ""
        yield f"| {ratio['says']} | {wanted} | {ratio['worst']:,g} | {ratio['median']:,g} | {ratio['n']} | {mark} |"
    for name, goal in found["goals"].items():
        if name not in found["ratios"]:
            yield f"| {goal['says']} | {goal['wanted']} | | | | **not measured** |"


def _loads(found: dict[str, Any]) -> Iterator[str]:
    """Medians over what is not void, one table for each load."""
    counted = [without(repetition, repetition["void"]) for repetition in found["repetitions"]]
    for load in dict.fromkeys(name for repetition in counted for name in repetition["loads"]):
        arms = dict.fromkeys(arm for repetition in counted for arm in sorted(repetition["loads"].get(load, {})))
        rows = {arm: [_median(counted, load, arm, figure) for figure, _, _ in SHOWN] for arm in arms}
        columns = [at for at in range(len(SHOWN)) if any(row[at] is not None for row in rows.values())]
        yield f"**{load}**"
        yield ""
        yield f"| | {' | '.join(SHOWN[at][1] for at in columns)} |"
        yield "|---" * (len(columns) + 1) + "|"
        for arm, row in rows.items():
            cells = ["" if row[at] is None else SHOWN[at][2].format(row[at]) for at in columns]
            yield f"| {arm} | {' | '.join(cells)} |"
        yield ""


def _median(repetitions: Sequence[Repetition], load: str, arm: str, figure: str) -> float | None:
    name, _, part = figure.partition(".")
    values = []
    for repetition in repetitions:
        value = repetition["loads"].get(load, {}).get(arm, {}).get(name)
        if isinstance(value, dict):
            value = value.get(part)
        if value is not None:
            values.append(float(value))
    return statistics.median(values) if values else None


def _conditions(found: dict[str, Any]) -> Iterator[str]:
    machine, repetitions = found["machine"], found["repetitions"]
    voids = [f"{load}: {why}" for repetition in repetitions for load, why in repetition["void"].items()]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    settings = ", ".join(f"{name} {value}" for name, value in machine["settings"].items())
    others = [arm["other_cpu_busy"] for one in repetitions for arms in one["loads"].values() for arm in arms.values()]
    yield f"- {found['n']} repetitions; loads of them that decide nothing: {'; '.join(voids) or 'none'}."
    yield (
        f"- {machine['at']}, commit {machine['commit']}{' with changes' if machine['changed'] else ''}: {machine['cpu']},"
        f" {machine['cpus']} CPUs ({', '.join(machine['flags'])}), {machine['memory_gib']} GiB, {machine['system']}, kernel"
        f" {machine['kernel']}, Python {machine['python']}"
        f"{'' if machine['python_optimised'] else ' built without optimizations'}; load before the run"
        f" {machine['load_before']}, fdatasync of a page {machine['fdatasync_us']} µs."
    )
    yield f"- {versions}; {machine['postgres']}, {settings}."
    if others:
        yield f"- The busiest CPU of the rig itself was {statistics.median(others):.0f} % busy in the median load."
    yield from (f"- {note}" for note in found["notes"])
