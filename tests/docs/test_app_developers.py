"""What we tell developers of apps is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from inference.policy.catalog import PURPOSES, TASKS, Form

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "app-developers.md").read_text(encoding="utf-8")


def test_every_task_is_listed_with_its_fields_in_order() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| ([a-z_, ]+) \|$", GUIDE, re.MULTILINE))
    assert listed == {task.id: ", ".join(task.fields) for task in TASKS.values() if task.form is Form.RECORD}
    assert all(f"`{task.id}`" in GUIDE for task in TASKS.values())


def test_every_purpose_is_named() -> None:
    assert all(purpose in GUIDE for purpose in PURPOSES)
