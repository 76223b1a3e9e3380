"""What a campaign showed, as figures: how many kills of what, at which points, and what that allows one to say.

"0 faults in N kills" means, at 95 % confidence, a true rate below about 3/N. It never means "never".
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from provisioning.evaluation import servers
from provisioning.evaluation.site_file import REPOSITORY
from tests.crash.campaign import Campaign, Kill
from tests.crash.facts import Facts
from tests.crash.mutation import found
from tests.crash.plants import Plant

Json = dict[str, Any]


def figures(campaign: Campaign) -> Json:
    """The campaign itself: JSON for report.json. Kills after the last comparison showed nothing and do not count."""
    by_target: dict[str, list[Kill]] = defaultdict(list)
    for kill in campaign.kills[: campaign.compared]:
        by_target[kill.target].append(kill)
    return {
        "ok": not campaign.faults and campaign.compared == campaign.planned,
        "seed": campaign.seed,
        "n": campaign.each,
        "planned": campaign.planned,
        "kills": campaign.compared,
        "seconds": round(campaign.seconds, 1),
        "targets": {name: _target(kills, campaign.found) for name, kills in sorted(by_target.items())},
        "work": _work(campaign.found) if campaign.found else {},
        "faults": [{"code": fault.code, "what": fault.what} for fault in campaign.faults],
    }


def _target(kills: Sequence[Kill], found: Facts | None) -> Json:
    hits: Counter[str] = Counter(kill.point for kill in kills if kill.hit)
    struck = [kill for kill in kills if kill.pids]
    return {
        "n": len(struck),
        "bound_95": round(3 / len(struck), 4) if struck else None,
        "points": {
            point: {"n": n, "hit": hits[point]} for point, n in sorted(Counter(kill.point for kill in kills).items())
        },
        "answers_again_s": _spread(_until_next(struck, _answer_times(found))),
        "works_again_s": _spread(_until_next(struck, found.attempts_at if found else [])),
    }


def _work(found: Facts) -> Json:
    outcomes = Counter(outcome for ends in found.outcomes.values() for outcome in ends)
    return {
        "jobs_accepted": sum(line["act"] == "accepted" and line["ref"] in found.jobs for line in found.ledger),
        "batches_accepted": sum(line["act"] == "accepted" and line["ref"] in found.batches for line in found.ledger),
        "lines_of_batches": sum(job.batch is not None for job in found.jobs.values()),
        "jobs_ended": dict(Counter(f"{job.state} {job.code}".strip() for job in found.jobs.values())),
        "attempts": sum(job.attempt for job in found.jobs.values()),
        "texts_read": len(found.texts),
        "interactive_answered": sum(line["act"] == "answered" for line in found.ledger),
        "interactive_left": sum(line["act"] == "left" for line in found.ledger),
        "connections_cut": sum(line["act"] == "unanswered" for line in found.ledger),
        "refusals": dict(
            Counter(f"{line['status']} {line['code']}" for line in found.ledger if line["act"] == "refused")
        ),
        "intents": found.intents.total(),
        "outcomes": dict(outcomes),
        "audit_records": sum(count for count, _, _ in found.shards.values()),
        "audit_shards": len(found.shards),
        "verify_audit": {name: found.verdict.get(name) for name in ("ok", "sealed", "checkpoints", "code")},
    }


def _answer_times(found: Facts | None) -> list[float]:
    return [line["at"] for line in found.ledger if line["act"] in {"accepted", "answered"}] if found else []


def _until_next(kills: Iterable[Kill], moments: Sequence[float]) -> list[float]:
    """From each kill to the next such moment. Other kills fell in between: an upper bound for the one."""
    found = []
    for kill in kills:
        place = bisect_left(moments, kill.at)
        if place < len(moments):
            found.append(moments[place] - kill.at)
    return found


def _spread(values: Iterable[float]) -> Json:
    found = sorted(values)
    return {"median": round(statistics.median(found), 2), "max": round(found[-1], 2)} if found else {}


def planted(plant: Plant, campaign: Campaign) -> Json:
    """A mutation run: it passes when the campaign went red for the right reason."""
    codes = Counter(fault.code for fault in campaign.faults)
    return {
        "name": plant.name,
        "why": plant.why,
        "found": found(plant, campaign),
        "seed": campaign.seed,
        "kills": len(campaign.kills),
        "seconds": round(campaign.seconds, 1),
        "faults": dict(codes),
        "first": next((fault.what for fault in campaign.faults if fault.code in plant.found_by), ""),
    }


def machine() -> Json:
    """Where the figures come from."""
    cpu = next((line for line in _text("/proc/cpuinfo").splitlines() if line.startswith("model name")), "")
    memory = next((line.split()[1] for line in _text("/proc/meminfo").splitlines() if line.startswith("MemTotal")), "0")
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 1_048_576, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "postgres": _said(str(servers.find_postgres() / "postgres"), "--version"),
        "redis": _said(str(servers.find_redis()), "--version"),
    }


def commit() -> str:
    """The commit of the tree, with a mark when the tree holds more than that."""
    name = _said("git", "-C", str(REPOSITORY), "rev-parse", "HEAD")
    dirty = _said("git", "-C", str(REPOSITORY), "status", "--porcelain", "--untracked-files=no")
    return f"{name}{'-dirty' if dirty else ''}"


def show(report: Mapping[str, Any]) -> str:
    """The report for a person."""
    campaign, lines = (
        report["campaign"],
        [f"commit {report['commit']}, seed {report['seed']}, {report['machine']['cpu']}"],
    )
    if campaign:
        lines.append(
            f"{'target':<18} {'kills':>5} {'< 95 %':>8}  answers, works again after: median, longest   points: came of tried"
        )
        for name, row in campaign["targets"].items():
            points = ", ".join(f"{point} {of['hit']}/{of['n']}" for point, of in row["points"].items())
            again = "  ".join(
                f"{row[what].get('median', 0):>5} s {row[what].get('max', 0):>5} s"
                for what in ("answers_again_s", "works_again_s")
            )
            lines.append(f"{name:<18} {row['n']:>5} {row['bound_95'] or 0:>8}  {again}  {points}")
        lines += [f"{name}: {value}" for name, value in campaign["work"].items()]
        lines += [f"FAULT {fault['code']}: {fault['what']}" for fault in campaign["faults"]]
    for plant in report["planted"]:
        verdict = "found" if plant["found"] else "NOT FOUND"
        lines.append(f"planted {plant['name']}: {verdict} after {plant['kills']} kills; {plant['first']}")
    lines.append("ok" if report["ok"] else "RED")
    return "\n".join(lines)


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if sys.platform == "linux" else ""
