"""`python -m provisioning.launcher.keeper --slot a`: keeps one slot as its order says. One per slot, started by systemd.

Decides when to start, stop and try again. Leaves whether a start is allowed to the launcher, which asks anew each time.

- An order there, nothing running: start. Another order, or none: stop first, the whole process tree.
- Refused stays refused until the order changes, or for RETRY_S, after which the bytes are looked at again.
- Everything it knows is in report.json, written whole; what the engine prints passes the filter or is not kept.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from provisioning import durable, site_config
from provisioning.launcher import cell, logfilter, order
from provisioning.site_config import Site

POLL_S = 0.25
RETRY_S = 30.0
POLITE_S = 10.0
LARGEST_LOG = 4 * 1024 * 1024
_HOME = Path(__file__).resolve().parents[2]


@dataclass
class Engine:
    """One start: the guard's process, and what it has said so far."""

    process: subprocess.Popen[bytes]
    order: str
    began: float
    said: dict[str, Any]
    threads: list[threading.Thread] = field(default_factory=list)
    last_error: str = ""


class Keeper:
    """Follows the order of one slot; `step` may be called as often as one likes."""

    def __init__(self, site: Site, slot: str) -> None:
        self._site, self._slot = site, slot
        self._folder = site.slots_dir / slot
        self._engine: Engine | None = None
        self._ended: tuple[str, float] | None = None
        self._reported: dict[str, Any] = {}

    def step(self) -> None:
        wanted = self._order()
        if self._engine is not None:
            if wanted is None or wanted[0] != self._engine.order:
                self.stop()
            else:
                self._look(self._engine)
        if self._engine is None and wanted is not None and self._may_start(wanted[0]):
            self._engine = self._start(*wanted)

    def stop(self) -> None:
        """End the engine and everything it started: politely, then not."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        # An engine still loading has nothing to finish, and does not listen to SIGTERM yet: it is the first process of its cell.
        polite = POLITE_S if engine.said.get("state") == "running" else 0.5
        for number, patience in ((cell.POLITE, polite), (cell.NOW, 5.0), (signal.SIGKILL, 5.0)):
            if engine.process.poll() is None:
                engine.process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    engine.process.wait(patience)
        self._finish(engine)
        self._report(engine, state="exited", code="stopped", message="the order was withdrawn or replaced")
        self._ended = None

    def _order(self) -> tuple[str, int] | None:
        """Which order lies in the slot, by its digest, and its deployment's number; None for an empty slot."""
        try:
            with (self._folder / "order.json").open("rb") as file:
                data = file.read(order.SIZE + 1)
        except OSError:
            return None
        try:
            deployment = int(json.loads(data)["deployment"])
        except (ValueError, KeyError, TypeError, RecursionError):
            deployment = 0  # the launcher says what is wrong with it
        return hashlib.sha256(data).hexdigest(), deployment

    def _may_start(self, digest: str) -> bool:
        ended = self._ended
        return ended is None or ended[0] != digest or time.monotonic() - ended[1] >= RETRY_S

    def _start(self, digest: str, deployment: int) -> Engine:
        status, writer = os.pipe()
        command = [
            sys.executable, "-m", "provisioning.launcher", "--order", str(self._folder / "order.json"),
            "--slot", self._slot, "--keeper", str(os.getpid()), "--status-fd", str(writer),
        ]  # fmt: skip
        # Started from the main thread: the kernel ties a child's death signal to the thread that made it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(writer,),
            cwd=_HOME,
        )
        os.close(writer)
        engine = Engine(process, digest, time.monotonic(), {"deployment": deployment, "state": "verifying"})
        for target, source in ((self._hear, status), (self._keep_output, process.stdout)):
            thread = threading.Thread(target=target, args=(engine, source), daemon=True)
            thread.start()
            engine.threads.append(thread)
        self._report(engine)
        return engine

    def _look(self, engine: Engine) -> None:
        """Report what changed; take note of an end nobody asked for."""
        status = engine.process.poll()
        if status is not None:
            self._finish(engine)
            self._engine, self._ended = None, (engine.order, time.monotonic())
            if engine.said.get("state") == "refused":
                self._report(engine)
            else:
                why = f" ({engine.last_error})" if engine.last_error else ""
                message = f"the engine ended with status {status}{why}"
                self._report(engine, state="exited", code="engine_exited", message=message)
            return
        if engine.said.get("state") == "starting" and _listens(self._site.engine_socket(self._slot)):
            engine.said["state"] = "running"
        self._report(engine)

    def _finish(self, engine: Engine) -> None:
        for thread in engine.threads:
            thread.join(5.0)
        with contextlib.suppress(OSError):
            self._site.engine_socket(self._slot).unlink(missing_ok=True)

    def _hear(self, engine: Engine, status: int) -> None:
        """The launcher's own words, until it becomes the engine."""
        with os.fdopen(status, "rb") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    engine.said.update(json.loads(line))

    def _keep_output(self, engine: Engine, output: Any) -> None:
        log = self._site.run_dir / f"engine-{self._slot}.log"
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_suffix(".log.1"))
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{_now()} start deployment={engine.said.get('deployment', 0)}\n")
            written = 0
            while line := output.readline(logfilter.LONGEST_LINE):
                kept = logfilter.clean(line)
                engine.last_error = logfilter.error_name(kept) or engine.last_error
                if kept and written < LARGEST_LOG:
                    written += file.write(kept + "\n")
                    file.flush()
        output.close()

    def _report(self, engine: Engine, **news: str) -> None:
        said = dict(engine.said) | news
        seconds = round(time.monotonic() - engine.began, 1)
        report = {"deployment": 0, "code": "", "message": "", "pid": 0, "verified_bytes": 0, "network": "", **said}
        if report == self._reported:
            return
        self._reported = dict(report)
        report |= {"slot": self._slot, "at": _now(), "seconds": seconds}
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        durable.replace_whole(self._folder / "report.json", json.dumps(report, indent=1).encode("ascii"), mode=0o640)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m provisioning.launcher.keeper")
    parser.add_argument("--slot", choices=site_config.SLOTS, required=True)
    options = parser.parse_args()
    site = site_config.current()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: over.set())
    os.umask(0o027)
    folder = site.slots_dir / options.slot
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    with (folder / "keeper.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Two keepers would empty each other's engine's folders.
            print(f"slot {options.slot} has a keeper already", file=sys.stderr)
            return 1
        return _keep(Keeper(site, options.slot), over)


def _keep(keeper: Keeper, over: threading.Event) -> int:
    while not over.wait(POLL_S):
        keeper.step()
    keeper.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
