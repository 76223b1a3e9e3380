"""The supervisor's process: one step at every notification and at least once a second. Never ends by itself.

PostgreSQL being away changes nothing about what runs: the orders stay as they were, and the steps go on with it.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, InterfaceError, connection

from appliance.audit.errors import AuditError
from inference.engines.probes import SlotProbes
from inference.engines.supervisor import Supervisor
from inference.releases import services as releases

log = logging.getLogger(__name__)

POLL_S = 1.0
AGAIN_S = 0.5


class Command(BaseCommand):
    """Run the supervisor until SIGTERM."""

    help = "Make the engine slots follow the deployments, and prove new engines well; runs until stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--turns", type=int, default=0, help="stop after this many steps; 0 runs until stopped")

    def handle(self, *args: Any, turns: int, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        supervisor = Supervisor(settings.SITE, SlotProbes(settings.SITE))
        ear = Ear(settings.SITE.postgres.conninfo(settings.DB_ROLE))
        done = 0
        log.info("supervisor_started")
        while not stop.is_set():
            began = time.monotonic()
            self._turn(supervisor, stop)
            done += 1
            if done == turns:
                break
            ear.wait(max(0.0, POLL_S - (time.monotonic() - began)), stop)
        ear.close()
        log.info("supervisor_stopped")

    def _turn(self, supervisor: Supervisor, stop: threading.Event) -> None:
        try:
            supervisor.step()
        except (DatabaseError, InterfaceError, AuditError):
            # What runs goes on running; nothing is switched without a database to say so, or a log to hold it.
            log.warning("supervisor_database_away")
            connection.close()
            stop.wait(AGAIN_S)
        except OSError as error:
            log.error("supervisor_step_failed", extra={"errno": error.errno})
            stop.wait(AGAIN_S)


class Ear:
    """Listens for a change of what serves. A lost notification costs one poll, so losing the ear is no error."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Until something is said, or the time is over."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._conninfo, autocommit=True, connect_timeout=3)
                self._connection.execute(f"LISTEN {releases.CHANNEL}")
            for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                return
        except psycopg.Error:
            self.close()
            stop.wait(seconds)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
