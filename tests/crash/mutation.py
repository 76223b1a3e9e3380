"""A mutation run: the campaign over a copy of the tree with one bug in it, until it is found or the kills are used up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.crash.campaign import Campaign
from tests.crash.plants import Plant, grow
from tests.crash.targets import TARGETS, aimed

MOST_KILLS = 40
ROUND = 4
DRAIN_S = 45  # a job that a mutant has lost does not come back by waiting longer


def mutation_run(plant: Plant, base: Path, seed: int, *, say: Callable[[str], None] = lambda _line: None) -> Campaign:
    """The campaign as it ended; whether it found the bug is `found`'s question."""
    base.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base.parent, prefix="tree-") as folder:
        grow(plant, Path(folder))
        targets = [aimed(target, plant.point) for target in TARGETS if target.name in plant.targets]
        each = MOST_KILLS // len(targets)
        campaign = Campaign(base, targets, each, seed, tree=Path(folder), drain_s=DRAIN_S, round=ROUND, say=say)
        campaign.run()
    return campaign


def found(plant: Plant, campaign: Campaign) -> bool:
    """Red, and for the right reason."""
    return any(fault.code in plant.found_by for fault in campaign.faults)
