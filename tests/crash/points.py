"""When the killer strikes: at a random time, or in the middle of something by name.

Each point is a function that waits for its moment and then calls `strike`, at once and once; it returns whether the
moment came. Where it did not come in time the killer strikes anyhow, and the report counts the point as missed.

- accepted: a 202 has just arrived, and nothing else has happened yet
- answered: a client has just read the last byte of an answer
- reading: a stream has just shown its first words
- attempt: a job's intent is on record and its outcome is not
- commit: a session of the application is at its COPY or its COMMIT
- midway: a transaction has moved its rows and waits for the ledger's lock, which the killer holds
- sweep: the sweep is between finding dead attempts and committing what it did about them
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from celery import Celery

from tests.crash.ledger import Ledger
from tests.crash.scene import Scene

LONGEST_S = 5.0
ACTS = frozenset({"accepted", "answered", "reading"})
SWEEP = "inference.queue.tasks.sweep"

# The session the moment was seen in goes with it: where the target is a session, that is the one to kill.
Strike = Callable[[int], None]

_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE usename = current_user AND application_name <> 'campaign' AND "
_COMMITTING = _SESSIONS + "state = 'active' AND query ~* '^(COMMIT|COPY|RELEASE)'"
_BLOCKED = _SESSIONS + "wait_event_type = 'Lock' AND query LIKE 'INSERT INTO audit_shard%'"
# Matched by how the statement goes on after its columns: the view cuts it off before SKIP LOCKED.
_SWEEPING = _SESSIONS + "state <> 'idle' AND query ~ '^SELECT .*\"(lease_until|rung_at)\" <'"
_ATTEMPTS = "SELECT 0 FROM queue_job WHERE intent_open"
_LOCK = "SELECT id FROM audit_shard WHERE writer = 'ledger' FOR UPDATE"


class Points:
    """The moments, as seen from the database and from the clients' ledger."""

    def __init__(self, scene: Scene, ledger: Ledger) -> None:
        self._scene = scene
        self._ledger = ledger
        self._bell = Celery("campaign", broker=f"redis+socket://{scene.site.redis_socket}", set_as_current=False)
        self._bell.conf.broker_transport_options = {"socket_timeout": 1, "socket_connect_timeout": 1}

    def wait(self, name: str, strike: Strike) -> bool:
        """Strike at the point; False when its moment did not come."""
        if name == "random":
            time.sleep(self._scene.dice.uniform(0.0, 0.8))  # the moment itself is what is random
            strike(0)
            return True
        struck = threading.Event()

        def once(session: int) -> None:
            strike(session)
            struck.set()

        if name in ACTS:
            self._at_an_act(name, once, struck)
        else:
            # Our own sessions die with PostgreSQL, before the strike or by it.
            with suppress(psycopg.Error):
                getattr(self, f"_{name}")(once)
        return struck.is_set()

    def close(self) -> None:
        self._bell.close()

    def _at_an_act(self, act: str, strike: Strike, struck: threading.Event) -> None:
        self._ledger.strike_at(act, lambda: strike(0))
        if not struck.wait(LONGEST_S) and not self._ledger.forget(act):
            struck.wait()  # the act came in the last moment: its thread is striking now

    def _attempt(self, strike: Strike) -> None:
        with self._scene.database() as connection:
            _seen(connection, _ATTEMPTS, strike, every_s=0.01)

    def _commit(self, strike: Strike) -> None:
        with self._scene.database() as connection:
            _seen(connection, _COMMITTING, strike)

    def _midway(self, strike: Strike) -> None:
        with self._scene.database() as holder, self._scene.database() as watcher, holder.transaction():
            holder.execute(_LOCK)
            _seen(watcher, _BLOCKED, strike, every_s=0.01)

    def _sweep(self, strike: Strike) -> None:
        with self._scene.database() as connection:
            # Rung from here, a few times: the schedule's own would be one every three seconds.
            for _ in range(3):
                with suppress(Exception):
                    self._bell.send_task(SWEEP, queue="maintenance", expires=5, retry=False)
                if _seen(connection, _SWEEPING, strike, longest_s=0.5):
                    return


def _seen(
    connection: psycopg.Connection[Any],
    query: str,
    strike: Strike,
    *,
    every_s: float = 0.001,
    longest_s: float = LONGEST_S,
) -> bool:
    """Look until the query finds a session, and strike in the same breath."""
    until = time.monotonic() + longest_s
    while time.monotonic() < until:
        row = connection.execute(query).fetchone()
        if row is not None:
            strike(int(row[0]))
            return True
        time.sleep(every_s)
    return False
