"""The stack as the campaign sees it from outside: its processes, its database, its door."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from provisioning import site_config
from provisioning.evaluation import stack as product
from provisioning.evaluation import supervisor
from provisioning.evaluation.child import die_with_parent
from provisioning.evaluation.site_file import Layout, end_of
from tests.crash import stack
from tests.crash.workload import CUT, Door
from tests.waiting import until

START_S = 120
SEALED_S = 30
UNKNOWN = 1_000_000

_UNFINISHED = """
SELECT (SELECT count(*) FROM queue_job WHERE state IN ('queued', 'running'))
     + (SELECT count(*) FROM queue_batch WHERE finished IS NULL)
"""

_CLOSE = """
from datetime import timedelta
from django.utils import timezone
from inference.queue import services
now = timezone.now()
while services.close_unanswered(actor="crash-campaign", since=now - timedelta(days=1), until=now): pass
"""


@dataclass(frozen=True)
class Scene:
    """One running stack, and the dice that decide which of several processes is meant."""

    layout: Layout
    site: site_config.Site
    door: Door
    dice: random.Random
    stack: subprocess.Popen[bytes]

    def check_stack(self) -> None:
        """Nobody kills the program that starts the others again: without it there is nothing to wait for."""
        if self.stack.poll() is not None:
            raise RuntimeError(f"the stack itself ended with {self.stack.returncode}; see {self.layout.base}/stack.log")

    def pid(self, program: str) -> int:
        """The process now running under this name; 0 when none is."""
        return supervisor.read_table(self.layout.base).get(program, {}).get("pid", 0)

    def last_words(self, target: str) -> str:
        """The end of the log of a target's program: the stack is gone when somebody reads the fault."""
        return end_of(self.layout.logs / f"{target.split('-', maxsplit=1)[0]}.log", 5)

    def children(self, program: str) -> list[int]:
        pid = self.pid(program)
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()] if pid else []
        return []

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection as the application's role, which may see the application's own sessions."""
        conninfo = self.site.postgres.conninfo(self.site.postgres.app_role)
        with psycopg.connect(conninfo, connect_timeout=2, autocommit=True, application_name="campaign") as connection:
            yield connection

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.database() as connection:
            return connection.execute(query, parameters).fetchall()

    def answers(self) -> bool:
        """The door lets somebody in: the process is up, the database was read, the key is known."""
        try:
            return self.door.ask("/v1/models")[0] == 200
        except CUT:
            return False

    def database_answers(self) -> bool:
        try:
            return bool(self.rows("SELECT 1"))
        except psycopg.Error:
            return False

    def listens(self, path: Path) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            return connection.connect_ex(str(path)) == 0

    def unfinished(self) -> int:
        """Jobs and batches that have not ended; a great many when nobody can say."""
        try:
            return int(self.rows(_UNFINISHED)[0][0])
        except psycopg.Error:
            return UNKNOWN

    def close_unanswered(self) -> None:
        """The product's own closing of what a killed API process left open, with its clock brought forward."""
        product.manage(self.layout, "shell", "-v", "0", "-c", _CLOSE, role=self.site.postgres.app_role)

    def verdict(self) -> dict[str, Any]:
        """verify_audit's report, once the sealer has sealed what there is."""
        found: dict[str, Any] = {}

        def sealed() -> bool:
            found.clear()
            try:
                found.update(json.loads(product.manage(self.layout, "verify_audit", "--json")))
            except product.CommandError as error:
                found.update(ok=False, code="verify_audit", message=str(error))
                return True
            return int(found["unsealed"]) <= 1  # the record of the verification before this one

        try:
            until(sealed, SEALED_S, "the sealer has sealed everything")
        except AssertionError as error:
            return {"ok": False, "code": "audit_unsealed", "message": str(error)}
        return found


@contextmanager
def running(base: Path, tree: Path, seed: int) -> Iterator[Scene]:
    """The stack, started from a tree; stopped at the end however it ended."""
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with (base / "stack.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.stack", str(base), str(port)],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - no thread has started yet
        )
    try:
        key = stack.key_file(base)
        until(lambda: key.exists() or process.poll() is not None, START_S, "the stack starts")
        if process.poll() is not None:
            raise RuntimeError(f"the stack did not start; see {base / 'stack.log'}")
        layout = Layout(base, api_port=port)
        door = Door(port, key.read_text(encoding="ascii"))
        scene = Scene(layout, site_config.read(layout.site_file), door, random.Random(seed), process)
        until(scene.answers, START_S, "the LAN API answers")
        yield scene
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
