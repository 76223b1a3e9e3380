"""The whole appliance, once per test run: every process of `make up`, on ports and in a directory of its own.

It is `make up` itself, run as a program: what these tests see is what a person sees. It starts while other tests run
(see conftest), because the engine takes most of a minute to come up.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from provisioning import site_config
from provisioning.evaluation import people, request, stack, supervisor
from provisioning.evaluation.child import die_with_parent
from provisioning.evaluation.site_file import REPOSITORY, Layout, end_of
from tests.simulators.evaluation_publisher import EvaluationPublisher
from tests.waiting import until

LAST_LOGS = REPOSITORY / "var" / "last-box-logs"
START_S = 700
RESTART_S = 60
TOTP_STEPS_AROUND = 1  # a code of the neighbouring half minutes is good too


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Box:
    """A running appliance and the ways to look at it and to hurt it."""

    layout: Layout
    process: subprocess.Popen[bytes]
    publisher: EvaluationPublisher
    site: site_config.Site = field(init=False)
    summary: dict[str, Any] = field(init=False)
    _last_code: dict[str, int] = field(default_factory=dict)

    @classmethod
    def launch(cls, base: Path) -> Box:
        """Start it and return at once; `wait` says when it serves."""
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        # The evaluation bundle under a publisher of our own, so that a test can sign the next version.
        publisher = EvaluationPublisher(base / "publisher")
        layout = Layout(
            base,
            media=publisher.media,
            trust_root=publisher.trust_root,
            console_port=_free_port(),
            api_port=_free_port(),
        )
        environment = {
            **os.environ,
            "MEDIA": str(layout.media),
            "TRUST_ROOT": str(layout.trust_root),
            "CONSOLE_PORT": str(layout.console_port),
            "API_PORT": str(layout.api_port),
            "ONCE": "",
        }
        with (base / "up.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "provisioning.evaluation.up", str(base)],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - pytest's main thread
            )
        return cls(layout, process, publisher)

    def wait(self) -> None:
        """Until the first answer was given and its audit trail verified."""
        path = self.layout.base / "summary.json"

        def served() -> bool:
            if self.process.poll() is not None and not path.exists():
                raise AssertionError(f"the box did not start:\n{self.log()}")
            return path.exists()

        try:
            until(served, START_S, "the box serves")
        except AssertionError:
            raise AssertionError(f"the box did not serve within {START_S} s:\n{self.log()}") from None
        self.summary = json.loads(path.read_text(encoding="utf-8"))
        if not self.summary["ok"]:
            raise AssertionError(f"the box did not start: {self.summary['error']}\n{self.log()}")
        self.site = site_config.read(self.layout.site_file)

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        supervisor.clean_up(self.layout.base)
        # The run's directory goes; what it said stays for whoever wonders why something failed.
        shutil.rmtree(LAST_LOGS, ignore_errors=True)
        shutil.copytree(self.layout.logs, LAST_LOGS, ignore_dangling_symlinks=True)
        shutil.copy(self.layout.base / "up.log", LAST_LOGS)

    def log(self, name: str = "") -> str:
        """The end of a process's log, or of `make up`'s own words."""
        path = self.layout.logs / f"{name}.log" if name else self.layout.base / "up.log"
        return end_of(path, 25)

    # -- the ways in ---------------------------------------------------------------------------------------------------

    @property
    def api_url(self) -> str:
        """The LAN API's address without a path; the official client wants this plus /v1."""
        return f"http://127.0.0.1:{self.layout.api_port}"

    @property
    def console_url(self) -> str:
        return f"http://127.0.0.1:{self.layout.console_port}"

    @property
    def api_key(self) -> str:
        return (self.layout.base / "api-key").read_text(encoding="ascii").strip()

    def person(self, name: str) -> people.Person:
        """One of the cast, with the password."""
        return people.load(self.layout.people)[name]

    def code(self, name: str) -> str:
        """A one-time code of this person that was not used yet; waits when the neighbouring ones are used up."""
        now = int(time.time()) // people.STEP_S
        step = max(now, self._last_code.get(name, 0) + 1)
        if name not in self._last_code and name in self.summary["approvers"]:
            step = now + 1  # `up` itself used one when this person approved
        until(
            lambda: step <= int(time.time()) // people.STEP_S + TOTP_STEPS_AROUND,
            people.STEP_S + 5,
            f"a fresh one-time code of {name}",
        )
        self._last_code[name] = step
        return self.person(name).code(step * people.STEP_S)

    def manage(self, *arguments: str, stdin: str = "") -> str:
        """Run a management command of the product on this box."""
        return stack.manage(self.layout, *arguments, stdin=stdin)

    def sql(self, query: str, parameters: Sequence[Any] = (), *, role: str = "") -> list[tuple[Any, ...]]:
        """Rows of one statement, as the application's role unless another is named."""
        conninfo = self.site.postgres.conninfo(role or self.site.postgres.app_role)
        with psycopg.connect(conninfo, connect_timeout=5) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def until_answered(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """One exchange with the LAN API, again while nobody listens there or the answer is 503."""

        def exchange() -> tuple[int, dict[str, Any]] | None:
            try:
                answer = request.call(self.site.api, method, path, key=self.api_key, body=body)
            except OSError:
                return None
            return None if answer[0] == 503 else answer

        answer = until(exchange, RESTART_S, f"{method} {path} is answered")
        if answer is None:
            raise RuntimeError("until returns only what is true")
        return answer

    def listening(self) -> set[tuple[str, int]]:
        """Every TCP address that a process of this box listens on, those in the engine's own network left out."""
        mine = psutil.Process(self.process.pid).children(recursive=True)
        here = Path("/proc/self/ns/net").readlink()
        found: set[tuple[str, int]] = set()
        for process in mine:
            with contextlib.suppress(psutil.Error, OSError):
                if Path(f"/proc/{process.pid}/ns/net").readlink() == here:
                    connections = process.net_connections(kind="tcp")
                    found |= {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}
        return found

    # -- the ways to hurt it -------------------------------------------------------------------------------------------

    def pid(self, name: str) -> int:
        """The process now running under this name (stack.py has them); 0 when none is."""
        return supervisor.read_table(self.layout.base).get(name, {}).get("pid", 0)

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to one process; the supervisor starts it again. Returns the number it had."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def wait_restarted(self, name: str, old: int) -> int:
        return until(lambda: (pid := self.pid(name)) != old and pid, RESTART_S, f"{name} is started again")

    def stop(self, name: str) -> None:
        """Stop a process and keep it stopped until `start`."""
        hold = self.layout.base / "hold" / name
        hold.parent.mkdir(exist_ok=True)
        hold.touch()
        until(lambda: not self.pid(name), RESTART_S, f"{name} stops")

    def start(self, name: str) -> None:
        (self.layout.base / "hold" / name).unlink(missing_ok=True)
        until(lambda: self.pid(name), RESTART_S, f"{name} starts")

    def stop_postgres(self) -> None:
        self.stop("postgres")

    def start_postgres(self) -> None:
        self.start("postgres")
        until(stack.postgres(self.layout, self.site).ready, RESTART_S, "PostgreSQL answers")

    def flush_redis(self) -> None:
        """FLUSHALL: every wake-up that was waiting is lost."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(self.site.redis_socket))
            connection.sendall(b"FLUSHALL\r\n")
            if not connection.recv(16).startswith(b"+OK"):
                raise AssertionError("Redis did not flush")
