"""The campaign of `make crash` in short: the product stands it, and a planted bug does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioning.evaluation.site_file import REPOSITORY
from tests.crash import report
from tests.crash.campaign import Campaign
from tests.crash.mutation import found, mutation_run
from tests.crash.plants import PLANTS, Plant, grow
from tests.crash.targets import TARGETS, aimed
from tests.private_site import BASE

# One kill each, at the point where most is at stake.
POINTS = {
    "api-worker": "answered",
    "worker-child": "attempt",
    "worker-main": "midway",
    "feeder-child": "attempt",
    "beat": "random",
    "redis": "accepted",
    "postgres-backend": "commit",
    "postgres-main": "accepted",
    "engine": "attempt",
}


def test_whatever_is_killed_no_accepted_job_is_lost_or_recorded_twice_and_no_record_is_missing() -> None:
    targets = [aimed(target, POINTS[target.name]) for target in TARGETS if target.name in POINTS]
    campaign = Campaign(BASE / "crash", targets, each=1, seed=20)
    campaign.run()
    assert campaign.faults == []
    figures = report.figures(campaign)
    assert figures["kills"] == len(POINTS)
    assert figures["work"]["jobs_accepted"] > 0
    assert figures["work"]["lines_of_batches"] > 0
    assert figures["work"]["verify_audit"]["ok"]
    assert all(row["n"] == 1 for row in figures["targets"].values())


def test_the_campaign_finds_a_bug_that_answers_before_the_outcome_is_on_record() -> None:
    (plant,) = [plant for plant in PLANTS if plant.name == "answered-before-recorded"]
    campaign = mutation_run(plant, BASE / "planted", seed=20)
    assert found(plant, campaign), campaign.faults


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_every_plant_still_finds_its_place_in_the_tree(plant: Plant, tmp_path: Path) -> None:
    grow(plant, tmp_path / "tree")
    planted = (tmp_path / "tree" / plant.file).read_text(encoding="utf-8")
    assert planted != (REPOSITORY / plant.file).read_text(encoding="utf-8")
    compile(planted, plant.file, "exec")
