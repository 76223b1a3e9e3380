"""`make crash`: the campaign, then the planted bugs; var/crash/report.json, a table, and the exit status.

Decides: what is asked for (N, SEED, ONLY, PLANTS in the environment) and that the report is written whatever happens.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from provisioning.evaluation.site_file import REPOSITORY
from tests.crash import report
from tests.crash.campaign import Campaign
from tests.crash.mutation import mutation_run
from tests.crash.plants import PLANTS
from tests.crash.targets import TARGETS, Target

BASE = REPOSITORY / "var" / "crash"


def main() -> int:
    """N kills of each target (20), from SEED (1); ONLY=api,redis some targets; PLANTS=0 no planted bugs, or their names."""
    each, seed = int(os.environ.get("N") or 20), int(os.environ.get("SEED") or 1)
    targets = chosen(os.environ.get("ONLY") or "")
    wanted = os.environ.get("PLANTS") or ""
    plants = [] if wanted == "0" else [plant for plant in PLANTS if not wanted or plant.name in wanted.split(",")]
    document: report.Json = {"commit": report.commit(), "machine": report.machine(), "seed": seed, "n": each}
    document |= {"ok": False, "campaign": {}, "planted": []}
    try:
        if each:
            say(f"{each} kills each of {', '.join(target.name for target in targets)}; seed {seed}")
            campaign = Campaign(BASE / "site", targets, each, seed, say=say)
            try:
                campaign.run()
            finally:  # Ctrl-C too: what was compared until then was shown
                document["campaign"] = report.figures(campaign)
        for plant in plants:
            say(f"planting {plant.name}: {plant.why}")
            document["planted"].append(report.planted(plant, mutation_run(plant, BASE / "planted", seed, say=say)))
        document["ok"] = document["campaign"].get("ok", True) and all(plant["found"] for plant in document["planted"])
    finally:
        BASE.mkdir(parents=True, exist_ok=True)
        (BASE / "report.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    say(report.show(document))
    return 0 if document["ok"] else 1


def chosen(only: str) -> Sequence[Target]:
    """The targets whose names begin with one of these words; all without any."""
    words = [word for word in only.split(",") if word]
    found = [target for target in TARGETS if not words or target.name.startswith(tuple(words))]
    if not found:
        raise SystemExit(f"ONLY={only} names none of {', '.join(target.name for target in TARGETS)}")
    return found


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
