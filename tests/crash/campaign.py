"""One campaign: start the stack, kill and kill again under load, let it recover, compare the witnesses.

Decides: the order of the kills (from the seed), the pace, and what counts as recovered. A target is killed again only
after it came back from its last kill; the others may still be on their way, as they would be in a bad night. After each
round of kills the clients finish, every job must end, and the books are compared over everything so far.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from provisioning.evaluation.site_file import REPOSITORY
from tests.crash import checker, stack
from tests.crash.checker import Fault
from tests.crash.facts import Facts, collect
from tests.crash.ledger import Ledger
from tests.crash.points import Points
from tests.crash.scene import UNKNOWN, Scene, running
from tests.crash.targets import Target, strike
from tests.crash.workload import Act, Batches, Chats, Jobs, Streams, Workload
from tests.waiting import until

ROUND = 150
MOST_UNFINISHED = 60
BACK_S = 60
# Every retry of a job with its longest delay, and a lease and a sweep before each (inference/queue/rules.py).
DRAIN_S = 180
MOST_FAULTS = 50


@dataclass
class Kill:
    """One kill. `hit`: its point came; otherwise it fell at some other moment."""

    target: str
    point: str
    at: float = 0.0
    hit: bool = False
    pids: list[int] = field(default_factory=list)


@dataclass
class Campaign:
    """What is to be killed, how often, from which seed, in which tree; and what came of it."""

    base: Path
    targets: Sequence[Target]
    each: int
    seed: int
    tree: Path = REPOSITORY
    drain_s: float = DRAIN_S
    round: int = ROUND
    say: Callable[[str], None] = lambda _line: None
    kills: list[Kill] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    planned: int = 0
    compared: int = 0
    found: Facts | None = None
    _read: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def run(self) -> None:
        """All of it. The first round that finds a fault is the last."""
        began = time.monotonic()
        plan = self._plan()
        self.planned = len(plan)
        with running(self.base, self.tree, self.seed) as scene:
            ledger = Ledger(self.base / "ledger.jsonl")
            points = Points(scene, ledger)
            try:
                for first in range(0, len(plan), self.round):
                    self._round(scene, ledger, points, plan[first : first + self.round])
                    self.say(f"{len(self.kills)} of {len(plan)} kills, {len(self.faults)} faults")
                    if self.faults:
                        break
            finally:
                points.close()
        self.seconds = time.monotonic() - began

    def _plan(self) -> list[tuple[Target, str]]:
        """Every target `each` times, its points in turn, in an order that the seed decides."""
        plan = [(target, target.points[i % len(target.points)]) for target in self.targets for i in range(self.each)]
        random.Random(self.seed).shuffle(plan)
        return plan

    def _round(self, scene: Scene, ledger: Ledger, points: Points, plan: Sequence[tuple[Target, str]]) -> None:
        workload = Workload(_acts(scene, ledger), busy=lambda: MOST_UNFINISHED < scene.unfinished() < UNKNOWN)
        workload.start()
        away: dict[str, Kill] = {}
        for target, point in plan:
            if not self._back(scene, target, away.pop(target.name, None)):
                break
            kill = away[target.name] = Kill(target.name, point)
            fall = partial(_fall, scene, target, kill)
            kill.hit = points.wait(point, fall)
            if not kill.pids:
                fall(0)
            self.kills.append(kill)
        for target in self.targets:
            self._back(scene, target, away.pop(target.name, None))
        workload.stop()
        self.faults += [Fault("client_fell_over", failure) for failure in workload.failures]
        self._compare(scene, ledger)

    def _back(self, scene: Scene, target: Target, kill: Kill | None) -> bool:
        """Wait until the target is there, with other processes than the one killed last."""
        gone = set(kill.pids) if kill else set()

        def there() -> bool:
            scene.check_stack()
            victims = target.victims(scene)
            return bool(victims) and not gone & set(victims) and target.back(scene)

        try:
            until(there, BACK_S, f"{target.name} is back")
        except AssertionError as error:
            self.faults.append(Fault("not_back", f"{error}; {scene.last_words(target.name)}"))
            return False
        return True

    def _compare(self, scene: Scene, ledger: Ledger) -> None:
        """Let everything end, close what a killed API process left open, and hold the witnesses against each other."""
        with suppress(AssertionError):  # the checker names the jobs that have not ended
            until(lambda: scene.unfinished() == 0, self.drain_s, "every job has ended")
        scene.close_unanswered()
        found = collect(scene, ledger.lines(), stack.engine_log(self.base))
        found.texts = dict(self.found.texts) if self.found else {}
        self._read_texts(scene, found)
        found.verdict = scene.verdict()
        self.found = found
        self.faults += checker.check(found)[:MOST_FAULTS]
        self.compared = len(self.kills)

    def _read_texts(self, scene: Scene, found: Facts) -> None:
        """What each client is given for what it handed in, through the door."""
        for line in found.ledger:
            ref, mark = str(line.get("ref", "")), str(line.get("mark", ""))
            if line["act"] != "accepted" or mark in self._read:
                continue
            self._read.add(mark)
            if ref in found.batches:
                found.texts.update(_batch_texts(scene, ref))
            elif ref in found.jobs and found.jobs[ref].state == "succeeded":
                status, _, body = scene.door.ask(f"/v1/jobs/{ref}")
                found.texts[mark] = str(body["result"]["choices"][0]["message"]["content"]) if status == 200 else ""


def _acts(scene: Scene, ledger: Ledger) -> list[Act]:
    kinds = (Jobs, Jobs, Batches, Chats, Streams, Streams)
    return [kind(scene.door, ledger) for kind in kinds]


def _batch_texts(scene: Scene, ref: str) -> dict[str, str]:
    """The lines that were answered, by the name the client gave them."""
    _, _, batch = scene.door.ask(f"/v1/batches/{ref}")
    if not batch.get("output_file_id"):
        return {}
    _, _, content = scene.door.read(f"/v1/files/{batch['output_file_id']}/content")
    lines = [json.loads(line) for line in content.splitlines()]
    return {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in lines}


def _fall(scene: Scene, target: Target, kill: Kill, session: int) -> None:
    """Kill one of the target's processes; where the point showed a session and sessions are the target, that one."""
    victims = target.victims(scene) if not session or target.name != "postgres-backend" else [session]
    kill.at = time.time()
    if victims and strike(victim := scene.dice.choice(victims)):
        kill.pids.append(victim)
