"""The appliance under test: a site of its own with real PostgreSQL and Redis, a client with a key, a release that
serves, and the LAN API's process exactly as the box starts it.

Decides: what of the appliance runs in a benchmark. Leaves to others: the engine behind it (a stub, or vLLM).
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import psycopg

from provisioning import site_config, site_keys
from provisioning.evaluation import site_file, stack, supervisor
from tests.bench import machine
from tests.waiting import until

BASE = site_file.REPOSITORY / "var" / "bench"
SLOTS = 256
"""Of the engine, as the site file has it: more than any load here, so that admission never decides a figure."""


@dataclass
class Appliance:
    """A running one, as far as a benchmark needs it."""

    layout: site_file.Layout
    site: site_config.Site
    database: subprocess.Popen[bytes]
    key: str = ""
    model: str = ""

    @property
    def owner(self) -> str:
        return self.site.postgres.conninfo(self.site.postgres.owner_role)

    def program(self, name: str) -> supervisor.Program:
        """One of the box's own processes, by the name it has there."""
        return next(program for program in stack.appliance(self.layout, self.site) if program.name == name)


def set_places(layout: site_file.Layout, places: int) -> None:
    """How much the engine runs at once, for every program that is started from now on."""
    text = layout.site_file.read_text(encoding="utf-8")
    layout.site_file.write_text(re.sub(r"max_num_seqs = [0-9]+", f"max_num_seqs = {places}", text), encoding="utf-8")


@contextmanager
def appliance(api_port: int, *, litellm_database: bool = False) -> Iterator[Appliance]:
    """PostgreSQL and Redis on the CPUs of the others, the schema, a client and a release."""
    base = BASE / "site"
    supervisor.clean_up(base)
    shutil.rmtree(base, ignore_errors=True)
    layout = site_file.Layout(base, api_port=api_port)
    site_file.write(layout)
    set_places(layout, SLOTS)
    site = site_config.read(layout.site_file)
    site_keys.create_missing(site)
    os.environ[site_config.ENVIRONMENT_KEY] = str(layout.site_file)
    os.environ["ISOWARD_DB_ROLE"] = site.postgres.owner_role
    os.environ["DJANGO_SETTINGS_MODULE"] = "appliance.settings"
    with ExitStack() as servers, machine.on(machine.OTHER_CPUS):
        redis = stack.redis(layout, site)
        postgres = replace(stack.postgres(layout, site), create_databases=litellm_database)
        running = Appliance(layout, site, postgres.start())
        servers.callback(postgres.stop)
        redis.start()
        servers.callback(redis.stop)
        stack.manage(layout, "migrate", "--no-input", "--verbosity", "0", role=site.postgres.owner_role)
        stack.manage(layout, "grant_roles", role=site.postgres.owner_role)
        if litellm_database:
            with psycopg.connect(running.owner, autocommit=True) as connection:
                connection.execute("CREATE DATABASE litellm")
        _populate(running)
        yield running
    shutil.rmtree(base, ignore_errors=True)


def _populate(running: Appliance) -> None:
    import django  # noqa: PLC0415 - the site must exist first

    django.setup()
    from tests.simulators import lan  # noqa: PLC0415 - as above

    lan.serve_a_release()
    running.key = lan.new_key("bench")
    running.model = lan.MODEL


@contextmanager
def api(running: Appliance, cpus: set[int]) -> Iterator[int]:
    """The LAN API as the box starts it, one worker; yields its process."""
    with machine.on(cpus):
        process = running.program("api").start()
    with ended(process):
        log = running.layout.logs / "api.log"
        until(lambda: _answers(running) or _fell(process, log), 60, f"the API answers; see {log}")
        yield process.pid


@contextmanager
def worker(running: Appliance, name: str, cpus: set[int]) -> Iterator[int]:
    """One of the box's Celery workers, once it takes messages; yields its process."""
    from appliance.celery import app  # noqa: PLC0415 - the site must exist first

    def heard() -> int:
        return len(app.control.ping(timeout=0.5) or ())

    before = heard()
    log = running.layout.logs / f"{name}.log"
    with machine.on(cpus):
        process = running.program(name).start()
    with ended(process):
        until(lambda: heard() > before or _fell(process, log), 60, f"{name} waits; see {log}")
        yield process.pid


@contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """The program for as long as the block runs; then it ends, and whatever it left behind with it."""
    try:
        yield process
    finally:
        below: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _, left = psutil.wait_procs(below, timeout=5)  # vLLM's engine outlives the one that started it
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def started(
    command: list[str],
    *,
    log: Path,
    cpus: set[int],
    ready: Callable[[], bool],
    environment: dict[str, str] | None = None,
    patience_s: float = 120,
) -> subprocess.Popen[bytes]:
    """A program on these CPUs, once it is ready; it ends when we do."""
    with machine.on(cpus):
        process = supervisor.spawn(
            command,
            log=log,
            environment={**os.environ, **(environment or {})},
            cwd=site_file.REPOSITORY,
            stop_signal=signal.SIGTERM,
        )
    until(lambda: ready() or _fell(process, log), patience_s, f"{Path(command[0]).name} is ready; see {log}")
    return process


def _fell(process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"it ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
    return False


def _answers(running: Appliance) -> bool:
    key = {"Authorization": f"Bearer {running.key}"}
    return status_at(running.layout.api_port, "/v1/models/default", key) == 200


def status_at(port: int, path: str, headers: dict[str, str] | None = None) -> int:
    """What a server on this machine answers to a GET; 0 when it does not."""
    return _status(http.client.HTTPConnection("127.0.0.1", port, timeout=5), path, headers or {})


def status_over(socket_path: Path, path: str) -> int:
    """What a server on a unix socket answers to a GET; 0 when it does not."""
    wire = http.client.HTTPConnection("localhost", timeout=5)
    wire.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    wire.sock.settimeout(5)
    if wire.sock.connect_ex(str(socket_path)) != 0:
        wire.sock.close()
        return 0
    return _status(wire, path, {})


def _status(wire: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> int:
    try:
        wire.request("GET", path, headers=headers)
        return wire.getresponse().status
    except OSError:
        return 0
    finally:
        wire.close()


def insert_us(running: Appliance, rounds: int) -> float:
    """The median of one INSERT with its commit: a row like the log's, with its indexes, from the server's CPU."""
    command = [sys.executable, "-m", "tests.bench.insert", running.owner, str(rounds)]
    with machine.on({machine.SERVER_CPU}):
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=site_file.REPOSITORY)
    return float(done.stdout)


def settings(running: Appliance) -> dict[str, str]:
    """What PostgreSQL promises here."""
    names = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")
    with psycopg.connect(running.owner) as connection:
        return {name: str((connection.execute(f"SHOW {name}").fetchone() or ("",))[0]) for name in names}
