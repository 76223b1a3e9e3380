"""The queue before the real engine: is it kept as busy as it keeps itself, and do people notice?

Decides: vLLM offline (`offline.py`) and vLLM behind the queue, on the same prompts with the same sampling, taking turns;
and the first token of one interactive caller with and without a batch beside it. Throughput through the queue is counted
from the first intent to the last outcome in the audit log: tokens by the log's own counts.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import psycopg

from inference.policy import rules
from inference.policy.catalog import TASKS
from provisioning import site_config
from provisioning.evaluation import environments
from provisioning.evaluation.steps import Steps
from tests.bench import engine, handing_in, machine, site
from tests.bench.judge import Goal, Repetition
from tests.bench.load import RECORD, Load, drive, http, write_requests
from tests.bench.site import BASE, Appliance
from tests.waiting import until

REPETITIONS = int(os.environ.get("BENCH_ENGINE_REPETITIONS") or 3)
LINES = int(os.environ.get("BENCH_ENGINE_ANSWERS") or 192)
ASKED = int(os.environ.get("BENCH_ENGINE_ASKED") or 40)
PLACES = 32
TOKENS = 96


def of(name: str) -> Callable[[Repetition], float | None]:
    def value(repetition: Repetition) -> float | None:
        found: dict[str, float] = repetition.get("engine", {})
        return found.get(name)

    return value


GOALS = (
    Goal(
        "offline_tokens",
        "vLLM's tokens per second behind the queue, of its own offline",
        of("of_offline"),
        at_least=0.97,
    ),
    Goal("first_token_p95", "interactive first token p95 beside a batch, of idle", of("of_idle"), at_most=1.25),
)


def repetitions(steps: Steps, appliance: Appliance) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with ExitStack() as running:
        with steps.step("vLLM behind the queue, and vLLM offline"):
            site.set_places(appliance.layout, PLACES)
            engine_site = site_config.read(appliance.layout.site_file).engine
            running.enter_context(engine.serving(appliance, places=engine_site.seats))
            offline = running.enter_context(_offline(appliance))
            machine.pin(appliance.database.pid, {machine.SERVER_CPU})
            running.enter_context(site.api(appliance, {machine.SERVER_CPU}))
            for name in ("worker", "feeder"):
                running.enter_context(site.worker(appliance, name, {machine.SERVER_CPU}))
            _behind(appliance, PLACES)
            offline()
        for number in range(REPETITIONS):
            with steps.step(f"real engine, repetition {number + 1} of {REPETITIONS}") as step:
                turns = [("offline", offline), ("behind", lambda: _behind(appliance, LINES))]
                speeds = {name: ask() for name, ask in (turns if number % 2 else reversed(turns))}
                idle = _first_us(appliance)
                beside = _beside(appliance)
                one = {
                    "offline_tokens_per_s": round(speeds["offline"], 1),
                    "behind_tokens_per_s": round(speeds["behind"], 1),
                    "of_offline": speeds["behind"] / speeds["offline"],
                    "idle_first_p95_us": idle,
                    "beside_first_p95_us": beside,
                    "of_idle": beside / idle,
                }
                found.append({"engine": one, "loads": {}})
                step.done(
                    f"{speeds['behind']:.0f} of {speeds['offline']:.0f} tokens/s; first token {beside / idle:.2f} of idle"
                )
        machine.pin(appliance.database.pid, machine.OTHER_CPUS)
    return found


def _records(count: int) -> Iterator[dict[str, Any]]:
    yield from ({**RECORD, "age": 20 + number % 80} for number in range(count))


def _body(appliance: Appliance, record: dict[str, Any]) -> dict[str, Any]:
    body = Load("queue", connections=1, stream=False, tokens=TOKENS).body(appliance.model, record)
    return {**body, "temperature": 0}


def _behind(appliance: Appliance, count: int) -> float:
    """Tokens per second of one batch."""
    content = handing_in.lines(_body(appliance, record) for record in _records(count))
    ref, _ = handing_in.hand_in(appliance, content)
    handing_in.wait_for(appliance, ref, "completed", 600)
    query = """
        SELECT sum(output_tokens), (max(at_us) - min(at_us)) / 1e6, count(*) FILTER (WHERE outcome = 'ok')
        FROM audit_record WHERE request_id LIKE %s AND kind IN ('intent', 'outcome')
    """
    with psycopg.connect(appliance.owner) as connection:
        row = connection.execute(query, [f"job_{ref.removeprefix('batch_')[:16]}%"]).fetchone()
    if row is None or row[2] != count:
        raise AssertionError(f"of {count} lines {row and row[2]} ended well")
    return float(row[0]) / float(row[1])


def _first_us(appliance: Appliance, still: Callable[[], bool] = lambda: True) -> float:
    """p95 of the first event, one caller after the other."""
    load = Load("interactive", connections=1, stream=True, tokens=8)
    bodies = (load.body(appliance.model, record) | {"temperature": 0} for record in _records(8))
    requests = write_requests(BASE / "interactive.requests", [http(body, appliance.key) for body in bodies])
    address = f"tcp:{appliance.layout.api_port}"
    counted = drive(address, requests, connections=1, seconds=300, tokens=-1, limit=ASKED, cpus={machine.SERVER_CPU})
    if counted["faults"]:
        raise AssertionError(f"{counted['faults']} of {counted['answers']} interactive requests failed")
    if not still():
        raise AssertionError("the batch was over before the last interactive request")
    return float(counted["first_us"]["p95"])


def _beside(appliance: Appliance) -> float:
    """The same while a batch runs that outlasts it."""
    content = handing_in.lines(_body(appliance, record) for record in _records(32 * LINES))
    ref, _ = handing_in.hand_in(appliance, content)
    until(lambda: handing_in.counts(appliance, ref).get("succeeded", 0) > 0, 120, "the batch is in the engine")
    found = _first_us(appliance, lambda: handing_in.counts(appliance, ref).get("queued", 0) > 0)
    handing_in.cancel(appliance, ref)
    handing_in.wait_for(appliance, ref, "cancelled", 120)
    return found


@contextmanager
def _offline(appliance: Appliance) -> Iterator[Callable[[], float]]:
    """vLLM without a server, on the CPUs where the other one computes; each call runs all prompts once."""
    prompts = [rules.minimize(record, TASKS["progress_note"]) for record in _records(LINES)]
    given = {
        "engine": {
            "model": str(engine.TARGET),
            "max_model_len": appliance.site.engine.max_model_len,
            "max_num_seqs": PLACES,
            "dtype": "float32",
            "enforce_eager": True,
            "enable_prefix_caching": False,
            "seed": 0,
            "generation_config": "vllm",
        },
        "sampling": {"max_tokens": TOKENS, "temperature": 0.0, "seed": 0},
        "template": str(engine.TARGET / "chat_template.jinja"),
        "conversations": [
            [{"role": turn.role, "content": turn.content} for turn in prompt.turns] for prompt in prompts
        ],
    }
    path, log = BASE / "offline.json", BASE / "offline.log"
    path.write_text(json.dumps(given), encoding="utf-8")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(appliance.site.engine.kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, len(machine.CPUS) // 2)),
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONSAFEPATH": "1",  # this folder holds a queue.py, and that is not the one Python means
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    python = environments.ENGINE / "bin" / "python"
    with log.open("wb") as said, machine.on(machine.OTHER_CPUS):
        process = subprocess.Popen(
            [str(python), str(Path(__file__).parent / "offline.py"), str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=environment, cwd=BASE,
        )  # fmt: skip
    with site.ended(process):
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("a process without its pipes")
        _said(stdout, "ready", log)
        machine.pin(process.pid, {machine.SERVER_CPU}, below=False)

        def run() -> float:
            stdin.write("\n")
            stdin.flush()
            found = json.loads(_said(stdout, "{", log))
            return float(found["tokens"] / found["seconds"])

        yield run


def _said(stdout: IO[str], begins: str, log: Path) -> str:
    """The next line that is ours: vLLM talks too."""
    for line in stdout:
        if line.startswith(begins):
            return line
    raise AssertionError(f"vLLM offline has ended; see {log}")
