"""Keep the evaluation's processes running, and leave none behind.

Decides: when a dead process is started again, and how all of them end.
Leaves to others: which processes there are (stack.py). In production this is systemd's work.

- A child dies with this process, however this process went (the kernel sends the signal).
- A file named hold/<name> keeps that process stopped until the file is gone; tests and people use it.
- What runs is written to processes.json, with start times: `down` never kills a stranger that got an old number.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from provisioning.evaluation.child import die_with_parent

BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STABLE_S = 60.0  # after this long a process has shown that it can run: the back-off begins anew
STOP_TIMEOUT_S = 20.0
TURN_S = 0.2
MARKER = "ISOWARD_EVALUATION_RUN"


@dataclass(frozen=True)
class Program:
    """One process to keep running: how to start it, and the signal that ends it in order."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    stop_signal: signal.Signals = signal.SIGTERM
    last: bool = False  # stopped after the others, which need it


def spawn(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str], cwd: Path, stop_signal: signal.Signals
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, its output appended to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=cwd,
            preexec_fn=die_with_parent(stop_signal),  # noqa: PLW1509 - one thread, see Supervisor
            start_new_session=True,
        )


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    not_before: float = 0.0
    starts: int = 0


@dataclass
class Supervisor:
    """Runs in one thread, the main one: the parent-death signal belongs to the thread that started the child."""

    base: Path
    say: Callable[[str], None] = print
    children: dict[str, _Child] = field(default_factory=dict)

    @property
    def table(self) -> Path:
        return self.base / "processes.json"

    def hold_file(self, name: str) -> Path:
        return self.base / "hold" / name

    def start(self, program: Program) -> None:
        """Start it now and keep it running from here on."""
        child = self.children[program.name] = _Child(program)
        self._start(child)
        self._write_table()

    def turn(self) -> None:
        """One look at every child: start what died, hold what is to be held."""
        changed = False
        for child in self.children.values():
            changed |= self._look(child, time.monotonic())
        if changed:
            self._write_table()

    def wait_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Take turns until `done`; False when that took too long."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            self.turn()
            time.sleep(TURN_S)
        return True

    def stop_all(self) -> None:
        """End all of them at once, except the servers the others need to end well: those go last."""
        last = [child for child in self.children.values() if child.program.last]
        others = [child for child in self.children.values() if not child.program.last]
        for group in (others, last):
            for child in group:
                if child.process is not None and child.process.poll() is None:
                    child.process.send_signal(child.program.stop_signal)
            for child in group:
                self._wait(child)
        self.children.clear()
        self.table.unlink(missing_ok=True)

    def _look(self, child: _Child, now: float) -> bool:
        name = child.program.name
        running = child.process is not None and child.process.poll() is None
        if self.hold_file(name).exists():
            if child.process is not None:
                self._stop(child)
                self.say(f"{name}: held")
                return True
            return False
        if running:
            if child.failures and now - child.started > STABLE_S:
                child.failures = 0
            return False
        if child.process is not None:
            code = child.process.returncode
            delay = BACK_OFF_S[min(child.failures, len(BACK_OFF_S) - 1)]
            child.failures, child.not_before, child.process = child.failures + 1, now + delay, None
            self.say(f"{name}: ended with {code}; starting it again in {delay:g} s")
            return True
        if now < child.not_before:
            return False
        self._start(child)
        return True

    def _start(self, child: _Child) -> None:
        child.started = time.monotonic()
        child.starts += 1
        child.process = child.program.start()

    def _stop(self, child: _Child) -> None:
        if child.process is not None and child.process.poll() is None:
            child.process.send_signal(child.program.stop_signal)
        self._wait(child)

    def _wait(self, child: _Child) -> None:
        process, child.process = child.process, None
        if process is None:
            return
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.say(f"{child.program.name}: did not end within {STOP_TIMEOUT_S:g} s; killed")
            _kill_group(process.pid)
            process.wait()

    def _write_table(self) -> None:
        rows = {
            name: {"pid": child.process.pid, "born": born(child.process.pid), "starts": child.starts}
            for name, child in self.children.items()
            if child.process is not None
        }
        document = {"supervisor": {"pid": os.getpid(), "born": born(os.getpid())}, "children": rows}
        partial = self.table.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        partial.replace(self.table)


def born(pid: int) -> int:
    """The process's start time in clock ticks since boot; 0 when there is no such process, or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def read_table(base: Path) -> dict[str, dict[str, int]]:
    """Name to pid, born, starts, of the processes that are running; the supervisor among them."""
    try:
        document = json.loads((base / "processes.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    rows = {"supervisor": document["supervisor"], **document["children"]}
    return {name: row for name, row in rows.items() if born(row["pid"]) == row["born"] != 0}


def clean_up(base: Path) -> list[str]:
    """End everything that a run on this base left behind, the supervisor first; return what was ended."""
    ended: list[str] = []
    table = read_table(base)
    supervisor = table.pop("supervisor", None)
    if supervisor is not None and supervisor["pid"] != os.getpid():
        os.kill(supervisor["pid"], signal.SIGTERM)
        ended.append("supervisor")
        _wait_gone([supervisor["pid"]], STOP_TIMEOUT_S * 3)
    for name, row in read_table(base).items():
        if name != "supervisor":
            _kill_group(row["pid"], signal.SIGINT if name == "postgres" else signal.SIGTERM)
            ended.append(name)
    _wait_gone([row["pid"] for name, row in table.items()], STOP_TIMEOUT_S)
    for pid in _of_this_site(base):
        ended.append(_name_of(pid))
        _kill(pid)
    (base / "processes.json").unlink(missing_ok=True)
    return ended


def _of_this_site(base: Path) -> list[int]:
    """Processes with this site's mark, and orphans started with its paths: the engine gets a clean environment."""
    mark = f"{MARKER}={base}".encode()
    paths = (os.fsencode(f"{base}/state/"), os.fsencode(f"{base}/run/"))
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        orphan = parent == 1 and any(path in text for path in paths for text in (command, *environment))
        if mark in environment or orphan:
            found.append(int(entry.name))
    return found


def _name_of(pid: int) -> str:
    try:
        return f"{Path(f'/proc/{pid}/comm').read_text().strip()} ({pid})"
    except OSError:
        return str(pid)


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _wait_gone(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(born(pid) for pid in pids):
        if time.monotonic() > deadline:
            for pid in pids:
                if born(pid):
                    _kill_group(pid)
            return
        time.sleep(0.05)
