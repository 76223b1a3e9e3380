"""Whom the killer may kill: how each process is found, and how one sees that it is back.

`main` is the process the supervisor starts again, `child` one that its own parent does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import psutil
import psycopg

from tests.crash.scene import Scene


@dataclass(frozen=True)
class Target:
    """One kind of process, the points at which it is killed, and how long it may be away."""

    name: str
    victims: Callable[[Scene], list[int]]
    back: Callable[[Scene], bool]
    points: tuple[str, ...]


def _main(program: str) -> Callable[[Scene], list[int]]:
    return lambda scene: [pid for pid in [scene.pid(program)] if pid]


def _child(program: str) -> Callable[[Scene], list[int]]:
    return lambda scene: scene.children(program)


def _backends(scene: Scene) -> list[int]:
    """The application's own sessions."""
    query = "SELECT pid FROM pg_stat_activity WHERE usename = current_user AND application_name <> 'campaign'"
    with suppress(psycopg.Error):
        return [int(pid) for (pid,) in scene.rows(query)]
    return []


def _pool_is_full(program: str, processes: int = 2) -> Callable[[Scene], bool]:
    """As many as its `-c` says, see provisioning/evaluation/stack.py."""
    return lambda scene: len(scene.children(program)) >= processes


def _beats(scene: Scene) -> bool:
    """It has its schedule: from then on it rings.

    How that shows depends on the Python: ndbm (Debian's) keeps the file open and writes it at the end only; dumb writes it
    at the start and keeps nothing open.
    """
    kept = scene.layout.base / "run" / "beat"
    with suppress(psutil.Error, OSError):
        beat = psutil.Process(scene.pid("beat"))
        is_open = any(file.path.startswith(str(kept)) for file in beat.open_files())
        return is_open or any(path.stat().st_mtime > beat.create_time() for path in kept.parent.glob("beat*"))
    return False


TARGETS = (
    Target(
        "api-worker", _child("api"), Scene.answers, ("random", "accepted", "reading", "answered", "commit", "midway")
    ),
    Target("api-master", _main("api"), Scene.answers, ("random", "accepted", "reading", "commit")),
    Target("worker-child", _child("worker"), _pool_is_full("worker"), ("random", "attempt", "commit", "midway")),
    Target("worker-main", _main("worker"), _pool_is_full("worker"), ("random", "attempt", "accepted", "midway")),
    Target("feeder-child", _child("feeder"), _pool_is_full("feeder", 1), ("random", "attempt", "commit")),
    Target("feeder-main", _main("feeder"), _pool_is_full("feeder", 1), ("random", "attempt", "accepted")),
    Target("chores-child", _child("chores"), _pool_is_full("chores"), ("random", "sweep")),
    Target("chores-main", _main("chores"), _pool_is_full("chores"), ("random", "sweep")),
    Target("beat", _main("beat"), _beats, ("random", "sweep", "accepted")),
    Target(
        "redis",
        _main("redis"),
        lambda scene: scene.listens(scene.site.redis_socket),
        ("random", "accepted", "attempt", "sweep"),
    ),
    Target(
        "postgres-backend",
        _backends,
        Scene.database_answers,
        ("random", "accepted", "attempt", "commit", "midway", "sweep"),
    ),
    Target(
        "postgres-main",
        _main("postgres"),
        Scene.database_answers,
        ("random", "accepted", "attempt", "commit", "midway", "sweep"),
    ),
    Target(
        "engine",
        _main("engine"),
        lambda scene: scene.listens(scene.site.engine_socket("a")),
        ("random", "attempt", "reading"),
    ),
    Target("sealer", _main("sealer"), lambda scene: bool(scene.pid("sealer")), ("random", "accepted", "commit")),
)


def aimed(target: Target, point: str) -> Target:
    """The same target, killed at one point only."""
    return replace(target, points=(point,))


def strike(pid: int) -> bool:
    """kill -9; False when it was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
