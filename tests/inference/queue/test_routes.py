"""Which worker does what: long work never stands before the chores that find what the dead left behind."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from appliance.celery import SCHEDULE, app
from provisioning import site_config
from provisioning.evaluation import stack
from provisioning.evaluation.site_file import Layout

LONG = ["inference.api.expanding.expand", "inference.queue.tasks.run", "inference.queue.tasks.run_slice"]


def served(site: site_config.Site, base: Path) -> dict[str, set[str]]:
    """The queues of each worker that an appliance has."""
    found = {}
    for program in stack.appliance(Layout(base), site):
        assert isinstance(program.start, partial)
        words = program.start.args[0]
        if "-Q" in words:
            found[program.name] = set(words[words.index("-Q") + 1].split(","))
    return found


def queue_of(task: str) -> str:
    return str(app.amqp.router.route({}, task)["queue"].name)


@pytest.mark.parametrize("task", LONG)
def test_a_worker_that_does_long_work_does_no_chores(task: str, site: site_config.Site, tmp_path: Path) -> None:
    workers = [queues for queues in served(site, tmp_path).values() if queue_of(task) in queues]
    assert len(workers) == 1
    assert not workers[0] & {queue_of(chore) for _, chore, _ in SCHEDULE}


def test_every_chore_has_a_worker(site: site_config.Site, tmp_path: Path) -> None:
    assert {queue_of(chore) for _, chore, _ in SCHEDULE} <= set().union(*served(site, tmp_path).values())
