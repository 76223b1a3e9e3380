"""`make bench-queue`: what durable work costs, beside Celery with a task for each job, and beside the engine offline.

Decides: the steps, their sizes and the goals (issue 3, PERFORMANCE.md 4.2). Everything of ours is durable and sealed; the
other side keeps its tasks in a Redis that writes nothing to disk.

- Handing in is timed over HTTP, from the first byte of the file to the answer that the batch is accepted. Celery's calls
  are timed in process, BENCH_CELERY of them, and scaled to the same number: each costs what the one before it did.
- The queue's CPU per job is all that moving a job costs: taking its line in (the API's process), making it a row (the
  worker that reads the file), claiming, recording and ending it (`movement`). Celery's is handing in one task and a worker
  taking it. PostgreSQL's and Redis's own CPU is shown beside both.
- vLLM's own throughput and the interactive first token are measured with the real engine (`queue_engine`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from typing import Any

import psutil

from provisioning.evaluation import site_file, stack
from provisioning.evaluation.steps import Steps
from tests.bench import arms, handing_in, machine, noop, queue_engine, results, site
from tests.bench.judge import Goal, Repetition
from tests.bench.load import RECORD
from tests.bench.machine import Tree
from tests.bench.site import BASE, Appliance, ended
from tests.waiting import until

JOBS = int(os.environ.get("BENCH_JOBS") or 50_000)
CELERY = int(os.environ.get("BENCH_CELERY") or 5_000)
MOVED = int(os.environ.get("BENCH_MOVED") or 4_096)
REPETITIONS = int(os.environ.get("BENCH_REPETITIONS") or 3)
WITHOUT = frozenset((os.environ.get("BENCH_WITHOUT") or "").split())


def of(name: str) -> Callable[[Repetition], float | None]:
    def value(repetition: Repetition) -> float | None:
        found: dict[str, float] = repetition.get("queue", {})
        return found.get(name)

    return value


GOALS = (
    Goal(
        "submit_faster",
        f"{JOBS:,} jobs handed in, times faster than as many apply_async",
        of("submit_faster"),
        at_least=30,
    ),
    Goal("queue_cpu", "queue CPU per job, of a Celery task each", of("cpu_of_celery"), at_most=1 / 20),
    Goal(
        "queue_cpu_servers", "the same with PostgreSQL's and Redis's CPU counted in", of("cpu_of_celery_with_servers")
    ),
    Goal("rows_per_s", "lines made into rows, per second", of("rows_per_s")),
)


def main() -> int:
    site.BASE.mkdir(parents=True, exist_ok=True)
    steps = Steps()
    with steps.step("programs: gcc") as step:
        machine.install(step, {"gcc": "gcc"})
        arms.build("load")
    facts = machine.facts(site.BASE)
    with site.appliance(arms.free_port()) as appliance:
        repetitions = [_repetition(steps, number, appliance) for number in range(REPETITIONS)]
        real = [] if "engine" in WITHOUT else queue_engine.repetitions(steps, appliance)
        facts["settings"] = site.settings(appliance)
    facts["versions"] = {name: metadata.version(name) for name in ("celery", "redis", "django", "psycopg")}
    notes = [
        f"Celery: {CELERY:,} calls and tasks measured, scaled to {JOBS:,}.",
        f"Moved without an engine: {MOVED:,} jobs.",
    ]
    found = results.judged("queue", repetitions, GOALS, control="", machine=facts, notes=notes)
    results.add(found, real, queue_engine.GOALS)
    results.write(found)
    return 0


def _repetition(steps: Steps, number: int, appliance: Appliance) -> dict[str, Any]:
    with steps.step(f"repetition {number + 1} of {REPETITIONS}: {JOBS:,} jobs, Celery, and moving {MOVED:,}") as step:
        host = machine.Host.now()
        celery = _celery(appliance)
        step.progress("Celery is measured")
        ours = _ours(appliance, step.progress)
        per_task = celery["hand_in_us"] + celery["drain_us"]
        per_job = ours["take_in_us"] + ours["expand_us"] + ours["move_us"]
        found = {
            **{f"celery_{name}": value for name, value in celery.items()},
            **ours,
            "submit_faster": celery["hand_in_s"] * JOBS / CELERY / ours["submit_s"],
            "cpu_of_celery": per_job / per_task,
            "cpu_of_celery_with_servers": (per_job + ours["postgres_us"]) / (per_task + celery["redis_us"]),
        }
        shares = machine.Host.now().since(host)
        step.done(f"handed in in {ours['submit_s']:.1f} s; {per_job:.0f} us of CPU per job, Celery {per_task:.0f}")
    return {"queue": {name: round(value, 4) for name, value in found.items()}, "loads": {}, **shares}


def _celery(appliance: Appliance) -> dict[str, float]:
    """Handing in, then a worker that drains it: seconds, and CPU per task."""
    request = BASE / "celery.request"
    request.write_text(json.dumps(_body(appliance.model)), encoding="utf-8")
    redis = _server("redis-server")
    command = [sys.executable, "-m", "tests.bench.noop", str(appliance.site.redis_socket), str(CELERY), str(request)]
    with _celery_worker(appliance) as worker:
        # It stands still while the tasks are handed in: neither its start nor its waiting is what a task costs.
        machine.send(worker, signal.SIGSTOP)
        before = Tree.of(redis)
        with machine.on({machine.SERVER_CPU}):
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=site_file.REPOSITORY)
        produced, began = json.loads(done.stdout), Tree.of(worker)
        machine.send(worker, signal.SIGCONT)
        until(lambda: _waiting(appliance) == 0, 300, "Celery's worker has done every task")
        drained = Tree.of(worker).cpu_s - began.cpu_s
        broker = Tree.of(redis).cpu_s - before.cpu_s
    return {
        "hand_in_s": produced["seconds"],
        "hand_in_us": 1e6 * produced["cpu_s"] / CELERY,
        "drain_us": 1e6 * drained / CELERY,
        "redis_us": 1e6 * broker / CELERY,
    }


@contextmanager
def _celery_worker(appliance: Appliance) -> Iterator[int]:
    """One prefork child, as Celery comes, once it waits for tasks."""
    command = [sys.executable, "-m", "celery", "-A", "tests.bench.noop", "worker", "-c", "1", "-Q", noop.QUEUE]
    log = BASE / "celery.log"
    log.unlink(missing_ok=True)
    process = site.started(
        [*command, "--without-mingle", "--without-gossip", "--loglevel", "info"],
        log=log,
        cpus={machine.SERVER_CPU},
        ready=lambda: log.exists() and " ready." in log.read_text(encoding="utf-8", errors="replace"),
        environment={noop.BROKER_KEY: str(appliance.site.redis_socket)},
    )
    with ended(process):
        yield process.pid


def _waiting(appliance: Appliance) -> int:
    import redis  # noqa: PLC0415 - the client, only here

    connection = redis.Redis(unix_socket_path=str(appliance.site.redis_socket))
    return int(connection.llen(noop.QUEUE)) + int(connection.hlen("unacked"))


def _ours(appliance: Appliance, progress: Callable[[str], None]) -> dict[str, float]:
    content = handing_in.lines(_body(appliance.model, number) for number in range(JOBS))
    database = appliance.database.pid
    with ExitStack() as running:
        api = running.enter_context(site.api(appliance, {machine.SERVER_CPU}))
        # The worker that reads files, waiting when the batch comes; none that would take the lines.
        reader = running.enter_context(site.worker(appliance, "worker", {machine.SERVER_CPU}))
        before = {pid: Tree.of(pid).cpu_s for pid in (api, reader, database)}
        ref, submit_s = handing_in.hand_in(appliance, content)
        progress("the batch is accepted")
        expand_s = handing_in.wait_for(appliance, ref, "in_progress", 600)
        rows = {pid: Tree.of(pid).cpu_s - used for pid, used in before.items()}
        progress("its lines are rows")
        moved = _moved(appliance, ref)
        handing_in.cancel(appliance, ref)
    return {
        "submit_s": submit_s,
        "take_in_us": 1e6 * rows[api] / JOBS,
        "expand_us": 1e6 * rows[reader] / JOBS,
        "rows_per_s": JOBS / expand_s,
        "move_us": moved["move_us"],
        "postgres_us": 1e6 * rows[database] / JOBS + moved["postgres_us"],
    }


def _moved(appliance: Appliance, ref: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.movement", ref, str(MOVED)]
    environment = stack.environment(appliance.layout, role=appliance.site.postgres.app_role)
    before = Tree.of(appliance.database.pid).cpu_s
    with machine.on({machine.SERVER_CPU}):
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=site_file.REPOSITORY, env=environment
        )
    used = Tree.of(appliance.database.pid).cpu_s - before
    found = json.loads(done.stdout)
    if found["moved"] < MOVED:
        raise AssertionError(f"only {found['moved']} jobs were moved")
    return {"move_us": 1e6 * found["cpu_s"] / found["moved"], "postgres_us": 1e6 * used / found["moved"]}


def _server(name: str) -> int:
    """A server below us, by the name of its program."""
    return next(child.pid for child in psutil.Process().children(recursive=True) if child.name() == name)


def _body(model: str, number: int = 0) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": json.dumps({**RECORD, "age": 20 + number % 80})}],
        "metadata": {"task": "progress_note", "purpose": "TREAT"},
        "max_tokens": 17,
    }
