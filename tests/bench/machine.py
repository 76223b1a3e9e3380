"""The machine of a run: which CPU the server under test has to itself, what was taken from it, what it is.

Decides: the server's CPU and the others', and the facts that stand beside every figure. Leaves to others: the figures.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from provisioning.evaluation import environments, servers
from provisioning.evaluation.steps import Step

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU = CPUS[-1]
OTHER_CPUS = set(CPUS[:-1]) or {SERVER_CPU}
_TICK = os.sysconf("SC_CLK_TCK")
_FLAGS = ("sha_ni", "avx2", "avx512f", "amx_tile")


@contextmanager
def on(cpus: set[int]) -> Iterator[None]:
    """Whatever is started inside runs there: affinity is inherited."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin(pid: int, cpus: set[int], *, below: bool = True) -> None:
    """Move a running tree, or one process of it alone, with every thread it has already."""
    children = psutil.Process(pid).children(recursive=True) if below else []
    for process in [psutil.Process(pid), *children]:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cpus)


def send(pid: int, number: int) -> None:
    """A signal to a whole tree, the root first."""
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        process.send_signal(number)


@dataclass(frozen=True)
class Tree:
    """What a process and everything below it has used so far."""

    cpu_s: float
    rss_mib: float
    voluntary: int
    involuntary: int

    @classmethod
    def of(cls, pid: int) -> Tree:
        cpu, rss, voluntary, involuntary = 0.0, 0.0, 0, 0
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            # Fields 14 to 17 of /proc/PID/stat, counted after the name in brackets: its own time and its dead children's.
            fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            cpu += sum(int(field) for field in fields[11:15]) / _TICK
            rss += process.memory_info().rss / 2**20
            switches = process.num_ctx_switches()
            voluntary += switches.voluntary
            involuntary += switches.involuntary
        return cls(cpu, rss, voluntary, involuntary)


@dataclass(frozen=True)
class Host:
    """What every CPU of the machine has done so far."""

    at: float
    busy: dict[int, float]
    steal: dict[int, float]

    @classmethod
    def now(cls) -> Host:
        times = psutil.cpu_times(percpu=True)
        busy = {cpu: sum(t) - t.idle - t.iowait - t.guest - t.guest_nice - t.steal for cpu, t in enumerate(times)}
        return cls(time.monotonic(), busy, {cpu: t.steal for cpu, t in enumerate(times)})

    def since(self, before: Host) -> dict[str, float]:
        """Shares of the time since then, in per cent: of the server's CPU, of the busiest other, and what was stolen."""
        seconds = max(self.at - before.at, 1e-9)
        share = {cpu: 100 * (self.busy[cpu] - before.busy[cpu]) / seconds for cpu in CPUS}
        stolen = sum(self.steal[cpu] - before.steal[cpu] for cpu in CPUS) / len(CPUS)
        return {
            "server_cpu_busy": round(share[SERVER_CPU], 1),
            "other_cpu_busy": round(max(share[cpu] for cpu in OTHER_CPUS), 1),
            "steal": round(100 * stolen / seconds, 2),
        }


def install(step: Step, programs: dict[str, str]) -> None:
    """Debian's packages for the programs that are missing here: {program: package}."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    missing = [package for program, package in programs.items() if shutil.which(program, path=path) is None]
    if missing:
        environments.install_debian_packages(step, missing)


def facts(scratch: Path) -> dict[str, Any]:
    """What stands beside every figure."""
    return {
        "cpu": _cpu_model(),
        "cpus": len(CPUS),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "flags": [flag for flag in _FLAGS if flag in _cpuinfo("flags").split()],
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "python": platform.python_version(),
        "python_optimised": "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")),
        "fdatasync_us": _fdatasync_us(scratch),
        "load_before": round(os.getloadavg()[0], 2),
        "commit": _said(["git", "rev-parse", "--short=12", "HEAD"], cwd=environments.REPOSITORY),
        "changed": bool(_said(["git", "status", "--porcelain", "--untracked-files=no"], cwd=environments.REPOSITORY)),
        "requirements": hashlib.sha256(environments.RUNTIME_LOCK.read_bytes()).hexdigest()[:12],
        "postgres": _said([str(servers.find_postgres() / "postgres"), "--version"]).replace(
            "postgres (PostgreSQL)", "PostgreSQL"
        ),
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor()


def _cpuinfo(name: str) -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith(name)), "")


def _fdatasync_us(scratch: Path, rounds: int = 200) -> int:
    """What the disk asks for one durable page: the floor under every commit."""
    taken = []
    path = scratch / "fdatasync"
    with path.open("wb", buffering=0) as file:
        for _ in range(rounds):
            began = time.perf_counter()
            file.seek(0)
            file.write(b"x" * 8192)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    path.unlink()
    return round(1e6 * sorted(taken)[rounds // 2])


def _said(command: list[str], *, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    return (done.stdout or done.stderr).strip()
