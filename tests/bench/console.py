"""`make bench-console`: what each page of the console costs, empty and over a year of a hospital.

Decides: the pages, who opens them, and the goals: 150 ms of server time at the median and at most twelve queries with
ten million requests, 500 releases and 300 clients on record. A page's time is that of the whole stack from the request
to the last byte of the answer, middleware and PostgreSQL included, in one process; the same pages are measured before
the year is there, and the ratio of the two says what the year costs.
"""

from __future__ import annotations

import os
import statistics
import time
from importlib import metadata
from typing import Any

from provisioning.evaluation.steps import Steps
from tests.bench import arms, machine, results, site
from tests.bench.judge import Goal, Repetition

REPETITIONS = int(os.environ.get("BENCH_REPETITIONS") or 5)
OPENED = 7
MOST_MS = 150
MOST_QUERIES = 12


def worst(figure: str) -> Any:
    """Over all pages of a repetition."""

    def value(repetition: Repetition) -> float | None:
        return max((page[figure] for page in repetition["pages"].values()), default=None)

    return value


GOALS = (
    Goal("page_ms", "server time of the slowest page, median, milliseconds", worst("ms"), at_most=MOST_MS),
    Goal("page_queries", "queries of the page that asks most", worst("queries"), at_most=MOST_QUERIES),
    Goal("of_empty", "the page that the year costs most, of itself without the year", worst("of_empty")),
)


def main() -> int:
    site.BASE.mkdir(parents=True, exist_ok=True)
    steps = Steps()
    facts = machine.facts(site.BASE)
    with site.appliance(arms.free_port()) as appliance:
        from tests.bench import year  # noqa: PLC0415 - needs Django, which needs the site

        size = year.Size(requests=int(os.environ.get("BENCH_REQUESTS") or year.Size.requests))
        with steps.step("people at the door"):
            people = _people()
            pages = _pages(people)
        with steps.step("every page of an empty box"):
            empty = _measure(pages)
        with steps.step(f"a year: {size.requests:,} requests, {size.releases} releases, {size.clients} clients"):
            year.fill(appliance, size)
        repetitions = [_repetition(steps, number, pages, empty) for number in range(REPETITIONS)]
        facts["settings"] = site.settings(appliance)
    facts["versions"] = {name: metadata.version(name) for name in ("django", "psycopg")}
    rows = (
        f"{size.requests:,} requests ({2 * size.requests:,} records), {size.releases} releases, {size.clients} clients"
    )
    notes = [f"{rows}, {size.jobs:,} jobs, a day of {year.CARDS} cards.", *_table(repetitions)]
    found = results.judged("console", repetitions, GOALS, control="", machine=facts, notes=notes)
    results.write(found)
    return 0


def _people() -> dict[str, Any]:
    """One of each who opens pages, signed in."""
    from django.conf import settings  # noqa: PLC0415 - needs the site
    from django.test import Client  # noqa: PLC0415 - as above

    from tests.appliance import cast  # noqa: PLC0415 - as above
    from tests.console.door import enter  # noqa: PLC0415 - as above

    host = settings.ALLOWED_HOSTS[0]
    return {name: enter(cast.member(name), Client(SERVER_NAME=host)) for name in ("alice", "bob", "dave", "erin")}


def _pages(people: dict[str, Any]) -> dict[str, Any]:
    """Every page that opens with a GET and without an argument, by the first of these people who may; and a few searches."""
    from tests.console.sitemap import addresses  # noqa: PLC0415 - needs the site

    paths = [address.path for address in addresses() if address.permission is not None and "live" not in address.name]
    paths += ["/audit?client=app-7", "/audit?actor=bob", "/audit?action=release.received", "/audit?kind=refusal"]
    found = {}
    for path in paths:
        for person in people.values():
            if person.get(path).status_code == 200:
                found[path] = person
                break
    return found


def _measure(pages: dict[str, Any]) -> dict[str, dict[str, float]]:
    from django.db import connection  # noqa: PLC0415 - needs the site

    found = {}
    for path, person in pages.items():
        queries: list[str] = []

        def count(execute: Any, sql: str, *rest: Any, asked: list[str] = queries) -> Any:
            asked.append(sql)
            return execute(sql, *rest)

        with connection.execute_wrapper(count):
            person.get(path)
        taken = []
        for _ in range(OPENED):
            began = time.perf_counter()
            answer = person.get(path)
            taken.append(1000 * (time.perf_counter() - began))
            if answer.status_code != 200:
                raise RuntimeError(f"{path} answered {answer.status_code}")
        found[path] = {
            "ms": round(statistics.median(taken), 2), "slowest_ms": round(max(taken), 2), "queries": len(queries),
        }  # fmt: skip
    return found


def _repetition(steps: Steps, number: int, pages: dict[str, Any], empty: dict[str, dict[str, float]]) -> dict[str, Any]:
    with steps.step(f"repetition {number + 1} of {REPETITIONS}") as step:
        measured = _measure(pages)
        for path, page in measured.items():
            page["of_empty"] = round(page["ms"] / empty[path]["ms"], 2)
        slowest = max(measured, key=lambda path: measured[path]["ms"])
        step.done(f"{len(measured)} pages; the slowest {slowest}: {measured[slowest]['ms']:.0f} ms")
    return {"pages": measured, "empty": empty, "loads": {}}


def _table(repetitions: list[dict[str, Any]]) -> list[str]:
    """Each page in a line, the slowest first."""
    by_page = {path: [one["pages"][path] for one in repetitions] for path in repetitions[0]["pages"]}
    rows = [
        (path, statistics.median(page["ms"] for page in found), max(page["queries"] for page in found))
        for path, found in by_page.items()
    ]
    rows.sort(key=lambda row: -row[1])
    return [f"`{path}`: {ms:.0f} ms, {queries} queries" for path, ms, queries in rows]


if __name__ == "__main__":
    raise SystemExit(main())
