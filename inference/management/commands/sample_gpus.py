"""The sampler: NVML once a second, kept as samples, judged by rules, told as alerts. Never ends by itself.

- NVML missing or failing is a state to report, not a reason to stop; it is tried again every ten seconds.
- A call that hangs in the driver is a state to report, too; after a minute of it the process ends, to be started anew.
- PostgreSQL away costs the samples of that time; the loop goes on when it is back.
- What is wrong is decided in telemetry.rules, and nowhere here.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone

from appliance.alerts import selectors as alerts
from appliance.audit.errors import AuditError
from inference.telemetry import kmsg, rules, selectors
from inference.telemetry import services as telemetry
from inference.telemetry.errors import CardLostError, HungError, NvmlUnavailableError
from inference.telemetry.nvml import Nvml, Thread

log = logging.getLogger(__name__)

ACTOR = "sampler"
INTERVAL_S = 1.0
# NVML lists its cards once, when it starts: to see a card come back it must start again.
REOPEN_AFTER_S = 10.0
PRUNE_EVERY_S = 600.0
HEALTH_EVERY_S = 10.0
# A reading of eight cards takes some hundredths of a second.
HUNG_AFTER_S = 5.0
GIVE_UP_AFTER_S = 60.0
# A minute of slow counters, to see whether one rises.
HEALTH_KEPT = 7


class Command(BaseCommand):
    """Run the sampler until SIGTERM."""

    help = "Read every GPU once a second and open or close alerts; runs until stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--turns", type=int, default=0, help="stop after this many turns; 0 runs until stopped")
        parser.add_argument("--interval", type=float, default=INTERVAL_S, help="seconds between two turns")
        parser.add_argument("--kernel-log", type=Path, default=kmsg.DEVICE, help="where the kernel's records are read")

    def handle(self, *args: Any, turns: int, interval: float, kernel_log: Path, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        kernel = kmsg.KernelLog(kernel_log)
        sampler = Sampler(expected=settings.SITE.expected_gpus, started_at=timezone.now(), kernel=kernel)
        log.info("sampler_started", extra={"expected": sampler.expected, "interval_s": interval})
        done = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                sampler.turn(timezone.now())
            except (DatabaseError, psycopg.Error, AuditError) as error:
                # The next turn opens a new connection; this turn's samples are lost, and the pulse shows the gap.
                log.error("sampler_database_away", extra={"kind": type(error).__name__})
                connection.close()
            if sampler.thread.hung_s > GIVE_UP_AFTER_S:
                log.critical("sampler_gives_up", extra={"hung_s": round(sampler.thread.hung_s)})
                raise CommandError("the NVIDIA driver does not come back from a call; started anew, it may")
            done += 1
            if turns and done >= turns:
                break
            stop.wait(max(0.0, interval - (time.monotonic() - began)))
        sampler.close()
        log.info("sampler_stopped", extra={"turns": done})


@dataclass(frozen=True)
class Look:
    """What one turn saw of the driver."""

    cards: tuple[rules.Card, ...] = ()
    readings: tuple[rules.Reading, ...] = ()
    health: tuple[rules.Health, ...] = ()
    driver: str = ""
    library: str = ""


class Sampler:
    """What one sampler process holds between two turns."""

    def __init__(self, *, expected: int, started_at: datetime, kernel: kmsg.KernelLog) -> None:
        self.expected = expected
        self.started_at = started_at
        self.kernel = kernel
        self.thread = Thread()
        self.thresholds = rules.Thresholds()
        self.history: dict[str, deque[rules.Reading]] = {}
        self.health: dict[str, deque[rules.Health]] = {}
        self.reports: list[rules.Report] = []
        # The driver tells once: what a turn heard that was given up for hanging is kept as well.
        self.heard: SimpleQueue[rules.Report] = SimpleQueue()
        self.reason = ""
        self.nvml: Nvml | None = None  # touched in the thread alone, as is the next
        self.lost = False
        self.reopen_at = 0.0
        self.health_at = 0.0
        self.prune_at = 0.0

    def turn(self, now: datetime) -> None:
        """Read, keep, judge, tell, act."""
        seen = self.look(now)
        while not self.heard.empty():
            self.reports.append(self.heard.get())
        self.reports += self.kernel.xids(now=now)
        answered = {reading.uuid for reading in seen.readings}
        present = [card for card in seen.cards if card.uuid in answered]
        telemetry.store(cards=present, readings=seen.readings, at=now)
        telemetry.keep_health(health=seen.health)
        # Told by the driver once: kept here until the database has them.
        telemetry.hear(reports=self.reports)
        self.reports = []
        telemetry.beat(
            at=now,
            started_at=self.started_at,
            driver=seen.driver,
            library=seen.library,
            present=len(present),
            expected=self.expected,
            reason=self.reason,
            deaf=self.kernel.why,
        )
        self.remember(present, seen)
        self.follow(seen, present)
        if time.monotonic() >= self.prune_at:
            telemetry.prune(now=now)
            self.prune_at = time.monotonic() + PRUNE_EVERY_S

    def look(self, now: datetime) -> Look:
        """What every card says, or nothing and the reason."""
        try:
            seen = self.thread.call(lambda: self.read(now), within_s=HUNG_AFTER_S)
        except NvmlUnavailableError as error:
            if str(error) != self.reason:
                level = logging.ERROR if self.expected else logging.INFO
                log.log(level, "nvml_unavailable", extra={"why": str(error)})
            # One that hangs is not left behind: it may come back, and a second session would hang as well.
            self.lost = not isinstance(error, HungError)
            self.reason = str(error)
            return Look()
        self.reason = ""
        return seen

    def read(self, now: datetime) -> Look:
        """In the thread. A card that does not answer is simply not in the list."""
        if self.lost:
            self.leave()
        nvml = self.open()
        slow = time.monotonic() >= self.health_at
        readings, health = [], []
        for card in nvml.cards:
            try:
                readings.append(nvml.read(card, at=now))
                if slow:
                    health.append(nvml.health(card, at=now))
            except CardLostError as error:
                log.error("gpu_lost", extra={"uuid": card.uuid, "why": str(error)})
        if slow:
            self.health_at = time.monotonic() + HEALTH_EVERY_S
        for report in nvml.xids(at=now):
            self.heard.put(report)
        seen = Look(
            cards=nvml.cards,
            readings=tuple(readings),
            health=tuple(health),
            driver=nvml.driver or "",
            library=nvml.library or "",
        )
        if len(readings) < max(self.expected, len(nvml.cards)) and time.monotonic() >= self.reopen_at:
            self.leave()
        return seen

    def open(self) -> Nvml:
        """The open session, or a new one; not more often than every ten seconds."""
        if self.nvml is not None:
            return self.nvml
        if self.reason and time.monotonic() < self.reopen_at:
            raise NvmlUnavailableError(self.reason)
        self.reopen_at = time.monotonic() + REOPEN_AFTER_S
        self.nvml = Nvml()
        return self.nvml

    def leave(self) -> None:
        """Leave NVML; the next turn starts it again."""
        self.lost = False
        if self.nvml is not None:
            self.nvml.close()
            self.nvml = None

    def close(self) -> None:
        """The end of the process; a driver that hangs is not waited for."""
        self.kernel.close()
        try:
            self.thread.call(self.leave, within_s=HUNG_AFTER_S)
        except NvmlUnavailableError:
            log.warning("sampler_left_hung")

    def remember(self, present: list[rules.Card], seen: Look) -> None:
        """Keep what the rules look back on.

        While a card is missing, what was wrong with it still stands; once the inventory is whole again, a card that is
        not part of it was taken out, and its faults went with it.
        """
        for reading in seen.readings:
            self.history.setdefault(reading.uuid, deque(maxlen=self.thresholds.in_a_row)).append(reading)
        for item in seen.health:
            self.health.setdefault(item.uuid, deque(maxlen=HEALTH_KEPT)).append(item)
        if len(present) >= self.expected and not self.reason:
            here = {card.uuid for card in present}
            self.history = {uuid: kept for uuid, kept in self.history.items() if uuid in here}
            self.health = {uuid: kept for uuid, kept in self.health.items() if uuid in here}
            for uuid in here:
                self.health.setdefault(uuid, deque(maxlen=HEALTH_KEPT))
        else:
            for card in selectors.known():
                self.history.setdefault(card.uuid, deque(maxlen=self.thresholds.in_a_row))
                self.health.setdefault(card.uuid, deque(maxlen=HEALTH_KEPT))

    def follow(self, seen: Look, present: list[rules.Card]) -> None:
        """Make the alerts, the holds and the wanted restarts what the faults and the policy call for."""
        events, policy = selectors.open_events(), selectors.policy()
        findings = [*self.judge(seen, present), *rules.event_findings(events)]
        cards = {card.uuid: card for card in selectors.known()}
        told = [
            rules.told(item, policy, card=cards.get(item.key.rpartition(".")[2]), driver=seen.driver)
            for item in findings
        ]
        telemetry.settle(actor=ACTOR, findings=told)
        telemetry.act(actor=ACTOR, faults=rules.faults_of(findings, events), policy=policy)

    def judge(self, seen: Look, present: list[rules.Card]) -> list[rules.Finding]:
        """Everything that is wrong now, over the whole inventory."""
        standing = alerts.standing_keys(rules.PREFIX)
        inventory = rules.judge_inventory(
            expected=self.expected, present=present, known=selectors.known(), reason=self.reason
        )
        versions = rules.judge_versions(driver=seen.driver, library=seen.library)
        pulse = rules.judge(readings=self.history, thresholds=self.thresholds, standing=standing)
        health = rules.judge_health(health=self.health, thresholds=self.thresholds, standing=standing)
        return [*inventory, *versions, *pulse, *health]
