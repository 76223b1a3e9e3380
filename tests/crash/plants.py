"""Bugs planted on purpose: a campaign counts only if it also turns red where there is something to find.

Each is one small edit of a copy of the tree, of the kind that a hurried change makes; the product's own files are
never touched. An edit whose text is no longer there is an error: a plant that planted nothing would look like a pass.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from provisioning.evaluation.site_file import REPOSITORY

FOLDERS = ("appliance", "console", "inference", "provisioning", "tests")


@dataclass(frozen=True)
class Plant:
    """One bug, the targets and the point that show it, and the faults that count as having found it."""

    name: str
    why: str
    file: str
    old: str
    new: str
    targets: tuple[str, ...]
    point: str
    found_by: frozenset[str]


PLANTS = (
    Plant(
        name="acknowledged-before-durable",
        why="the 202 is sent for a commit that is not on the disk yet",
        file="provisioning/evaluation/servers.py",
        old="synchronous_commit = on",
        new="synchronous_commit = off",
        targets=("postgres-main", "postgres-backend"),
        point="accepted",
        found_by=frozenset({"job_lost"}),
    ),
    Plant(
        name="sweep-never-runs",
        why="what a dead worker left is never taken up again",
        file="appliance/celery.py",
        old='    ("sweep jobs", "inference.queue.tasks.sweep", 3.0),\n',
        new="",
        targets=("worker-main", "worker-child"),
        point="attempt",
        found_by=frozenset({"job_unfinished"}),
    ),
    Plant(
        name="claim-without-fence",
        why="a second bell takes a job that another attempt holds",
        file="inference/queue/services/jobs.py",
        old="Job.objects.filter(~paused, ref=ref, state=Job.State.QUEUED, not_before__lte=now).update(",
        new="Job.objects.filter(~paused, ref=ref, not_before__lte=now).update(",
        targets=("worker-child",),
        point="attempt",
        found_by=frozenset({"pair", "answer_records", "job_unfinished"}),
    ),
    Plant(
        name="outcome-forgotten",
        why="the sweep moves a dead attempt's job and leaves its intent without an outcome",
        file="inference/queue/services/sweeps.py",
        old="    audit.write_all(records)\n",
        new="    audit.write_all(records[:0])\n",
        targets=("worker-main", "worker-child"),
        point="attempt",
        found_by=frozenset({"pair"}),
    ),
    Plant(
        name="answered-before-recorded",
        why="the client has the whole answer before its outcome is on record",
        file="inference/serve.py",
        old='            await pair.conclude("ok")  # AuditUnavailableError: not called complete\n',
        new="",
        targets=("api-worker",),
        point="answered",
        # Durable work shows it without any luck of the moment: no attempt is ever recorded as answered, so no job ends.
        found_by=frozenset({"answer_without_record", "job_unfinished"}),
    ),
)


def grow(plant: Plant, tree: Path) -> None:
    """Copy the tree and plant the bug in the copy."""
    shutil.rmtree(tree, ignore_errors=True)
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "manage.py", tree / "manage.py")
    (tree / "offline-bundles").symlink_to(REPOSITORY / "offline-bundles")
    file = tree / plant.file
    text = file.read_text(encoding="utf-8")
    if text.count(plant.old) != 1:
        raise ValueError(f"plant {plant.name}: its text is not once in {plant.file}; write it anew")
    file.write_text(text.replace(plant.old, plant.new), encoding="utf-8")
