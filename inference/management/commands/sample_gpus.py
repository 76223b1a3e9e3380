"""The sampler: NVML once a second, kept as samples, judged by rules, told as alerts. Never ends by itself.

- NVML missing or failing is a state to report, not a reason to stop; it is tried again every ten seconds.
- PostgreSQL away costs the samples of that time; the loop goes on when it is back.
- What is wrong is decided in telemetry.rules, and nowhere here.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import deque
from datetime import datetime
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone

from appliance.alerts import selectors as alerts
from appliance.audit.errors import AuditError
from inference.telemetry import rules, selectors
from inference.telemetry import services as telemetry
from inference.telemetry.errors import CardLostError, NvmlUnavailableError
from inference.telemetry.nvml import Nvml

log = logging.getLogger(__name__)

ACTOR = "sampler"
INTERVAL_S = 1.0
# NVML lists its cards once, when it starts: to see a card come back it must start again.
REOPEN_AFTER_S = 10.0
PRUNE_EVERY_S = 600.0


class Command(BaseCommand):
    """Run the sampler until SIGTERM."""

    help = "Read every GPU once a second and open or close alerts; runs until stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--turns", type=int, default=0, help="stop after this many turns; 0 runs until stopped")
        parser.add_argument("--interval", type=float, default=INTERVAL_S, help="seconds between two turns")

    def handle(self, *args: Any, turns: int, interval: float, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        sampler = Sampler(expected=settings.SITE.expected_gpus, started_at=timezone.now())
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
            done += 1
            if turns and done >= turns:
                break
            stop.wait(max(0.0, interval - (time.monotonic() - began)))
        sampler.close()
        log.info("sampler_stopped", extra={"turns": done})


class Sampler:
    """What one sampler process holds between two turns."""

    def __init__(self, *, expected: int, started_at: datetime) -> None:
        self.expected = expected
        self.started_at = started_at
        self.thresholds = rules.Thresholds()
        self.history: dict[str, deque[rules.Reading]] = {}
        self.reason = ""
        self.nvml: Nvml | None = None
        self.reopen_at = 0.0
        self.prune_at = 0.0

    def turn(self, now: datetime) -> None:
        """Read, keep, judge, tell."""
        readings = self.read(now)
        answered = {reading.uuid for reading in readings}
        present = [card for card in self.cards if card.uuid in answered]
        telemetry.store(cards=present, readings=readings, at=now)
        telemetry.beat(
            at=now,
            started_at=self.started_at,
            driver=(self.nvml.driver or "") if self.nvml else "",
            present=len(present),
            expected=self.expected,
            reason=self.reason,
        )
        self.remember(present, readings)
        telemetry.settle(actor=ACTOR, findings=self.judge(present))
        if time.monotonic() >= self.prune_at:
            telemetry.prune(now=now)
            self.prune_at = time.monotonic() + PRUNE_EVERY_S

    @property
    def cards(self) -> tuple[rules.Card, ...]:
        """The cards NVML listed when it started."""
        return self.nvml.cards if self.nvml else ()

    def read(self, now: datetime) -> list[rules.Reading]:
        """One reading per card that answers; a card that does not is simply not in the list."""
        readings = []
        try:
            nvml = self.open()
            for card in nvml.cards:
                try:
                    readings.append(nvml.read(card, at=now))
                except CardLostError as error:
                    log.error("gpu_lost", extra={"uuid": card.uuid, "why": str(error)})
        except NvmlUnavailableError as error:
            if str(error) != self.reason:
                level = logging.ERROR if self.expected else logging.INFO
                log.log(level, "nvml_unavailable", extra={"why": str(error)})
            self.close()
            self.reason = str(error)
            return []
        self.reason = ""
        if len(readings) < max(self.expected, len(nvml.cards)) and time.monotonic() >= self.reopen_at:
            self.close()
        return readings

    def open(self) -> Nvml:
        """The open session, or a new one; not more often than every ten seconds."""
        if self.nvml is not None:
            return self.nvml
        if self.reason and time.monotonic() < self.reopen_at:
            raise NvmlUnavailableError(self.reason)
        self.reopen_at = time.monotonic() + REOPEN_AFTER_S
        self.nvml = Nvml()
        return self.nvml

    def close(self) -> None:
        """Leave NVML; the next turn starts it again."""
        if self.nvml is not None:
            self.nvml.close()
            self.nvml = None

    def remember(self, present: list[rules.Card], readings: list[rules.Reading]) -> None:
        """Keep what the rules look back on.

        While a card is missing, what was wrong with it still stands; once the inventory is whole again, a card that is
        not part of it was taken out, and its faults went with it.
        """
        for reading in readings:
            self.history.setdefault(reading.uuid, deque(maxlen=self.thresholds.in_a_row)).append(reading)
        if len(present) >= self.expected and not self.reason:
            here = {card.uuid for card in present}
            self.history = {uuid: kept for uuid, kept in self.history.items() if uuid in here}
        else:
            for card in selectors.known():
                self.history.setdefault(card.uuid, deque(maxlen=self.thresholds.in_a_row))

    def judge(self, present: list[rules.Card]) -> list[rules.Finding]:
        """Everything that is wrong now, over the whole inventory."""
        inventory = rules.judge_inventory(
            expected=self.expected, present=present, known=selectors.known(), reason=self.reason
        )
        health = rules.judge(
            readings=self.history, thresholds=self.thresholds, standing=alerts.standing_keys(rules.PREFIX)
        )
        return [*inventory, *health]
