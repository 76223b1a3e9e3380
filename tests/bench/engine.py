"""The real engine behind the real gateway: do its tokens come through as fast as without us?

Decides: vLLM on the evaluation model exactly as the launcher would start it, saturated: twice as many callers as it has
places. What computes has its CPUs to itself in every arm; vLLM's HTTP server, the gateway, PostgreSQL and the caller share
the server's. Leaves to others: what a gateway costs (gateway.py), which needs an engine that costs nothing.

The bare arm sends the engine the very bytes the gateway would: instruction, minimized record, usage with every chunk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from inference.engines import vllm
from inference.engines.engine import Order
from inference.policy import rules
from inference.policy.ask import Sampling
from inference.policy.catalog import TASKS
from provisioning.evaluation.site_file import REPOSITORY
from provisioning.evaluation.steps import Steps
from provisioning.launcher import arguments, start
from provisioning.launcher.verify import Approved
from tests.bench import machine, site
from tests.bench.judge import Goal, Repetition
from tests.bench.load import RECORD, Load, drive, http, write_requests
from tests.bench.site import BASE, Appliance, ended, started

REPETITIONS = int(os.environ.get("BENCH_ENGINE_REPETITIONS") or 3)
ANSWERS = int(os.environ.get("BENCH_ENGINE_ANSWERS") or 96)
PLACES = 16
TOKENS = 96
PROMPTS = 48
TARGET = REPOSITORY / "offline-bundles" / "evaluation" / "targets" / "isoward-clinical-demo"
ARMS = ("bare", "gateway", "bare_again")


def of_bare(arm: str, figure: str) -> Any:
    def value(repetition: Repetition) -> float | None:
        return float(repetition["loads"]["engine"][arm][figure] / repetition["loads"]["engine"]["bare"][figure])

    return value


GOALS = (
    Goal(
        "engine_tokens",
        "tokens per second of real vLLM through the gateway, of bare",
        of_bare("gateway", "tokens_per_s"),
        at_least=0.98,
    ),
    Goal("engine_again", "bare vLLM against itself", of_bare("bare_again", "tokens_per_s")),
)


def repetitions(steps: Steps, appliance: Appliance) -> list[dict[str, Any]]:
    """All of them, with one start of the engine."""
    found: list[dict[str, Any]] = []
    with ExitStack() as running:
        with steps.step("vLLM on the evaluation model"):
            running.enter_context(serving(appliance, places=PLACES))
            machine.pin(appliance.database.pid, {machine.SERVER_CPU})
            running.enter_context(site.api(appliance, {machine.SERVER_CPU}))
            asked = _requests(appliance)
            for arm in ("bare", "gateway"):
                _ask(appliance, arm, asked[arm], limit=PLACES)
        for number in range(REPETITIONS):
            with steps.step(f"real engine, repetition {number + 1} of {REPETITIONS}") as step:
                order = [*ARMS[number % len(ARMS) :], *ARMS[: number % len(ARMS)]]
                arms = {arm: _ask(appliance, arm, asked[arm.removesuffix("_again")], limit=ANSWERS) for arm in order}
                found.append({"order": order, "loads": {"engine": arms}})
                step.done(", ".join(f"{arm} {arms[arm]['tokens_per_s']:.0f}" for arm in ARMS) + " tokens/s")
        machine.pin(appliance.database.pid, machine.OTHER_CPUS)
    return found


@contextmanager
def serving(appliance: Appliance, *, places: int) -> Iterator[None]:
    """vLLM on the socket of slot a, with the launcher's arguments and environment, but not in its cell."""
    running = appliance.site
    release = running.releases_dir / "bench"
    release.parent.mkdir(parents=True, exist_ok=True)
    release.unlink(missing_ok=True)
    release.symlink_to(TARGET)
    wanted = arguments.default(running, _Release(appliance.model))
    words = list(wanted.arguments)
    words[words.index("--max-num-seqs") + 1] = str(places)
    approved = Approved(release, tuple(words), wanted.environment, (), 0)
    private = start.prepare(running, "a")
    environment = start.environment(approved, private, running.secret("engine-api-key").decode("ascii"))
    socket = running.engine_socket("a")
    process = started(
        [
            "/usr/bin/env",
            "-i",
            *(f"{name}={value}" for name, value in environment.items()),
            *start.command(approved, running, "a"),
        ],
        log=BASE / "vllm.log",
        cpus=machine.OTHER_CPUS,
        ready=lambda: _healthy(socket),
        patience_s=600,
    )
    # What computes has its CPUs to itself; vLLM's own door shares the server's with all the other doors, in every arm.
    machine.pin(process.pid, {machine.SERVER_CPU}, below=False)
    with ended(process):
        yield


class _Release:
    """What the launcher's defaults want to know of a release."""

    digest = "bench"

    def __init__(self, model: str) -> None:
        self.name = model


def _healthy(socket: Path) -> bool:
    return socket.is_socket() and site.status_over(socket, "/health") == 200


def _requests(appliance: Appliance) -> dict[str, Path]:
    load = Load("engine", connections=2 * PLACES, stream=True, tokens=TOKENS)
    secret = appliance.site.secret("engine-api-key").decode("ascii")
    through, bare = [], []
    for number in range(PROMPTS):
        record = {**RECORD, "age": 30 + number}
        body = load.body(appliance.model, record) | {"temperature": 0, "stream_options": {"include_usage": True}}
        through.append(http(body, appliance.key))
        bare.append(http(vllm.body(_order(appliance, record, number)), secret))
    return {
        "gateway": write_requests(BASE / "engine-gateway.requests", through),
        "bare": write_requests(BASE / "engine-bare.requests", bare),
    }


def _order(appliance: Appliance, record: dict[str, Any], number: int) -> Order:
    return Order(
        slot="a",
        model=appliance.model,
        prompt=rules.minimize(record, TASKS["progress_note"]),
        sampling=Sampling(max_tokens=TOKENS, temperature=0.0, seed=0),
        priority=0,
        cache_salt="bench",
        request_id=f"req_{number}",
    )


def _ask(appliance: Appliance, arm: str, requests: Path, *, limit: int) -> dict[str, Any]:
    address = f"tcp:{appliance.layout.api_port}" if arm == "gateway" else f"unix:{appliance.site.engine_socket('a')}"
    host = machine.Host.now()
    counted = drive(
        address, requests, connections=2 * PLACES, seconds=600, tokens=-1, limit=limit, cpus={machine.SERVER_CPU}
    )
    per_second = counted["spent"] / counted["seconds"]
    return {**counted, "tokens_per_s": round(per_second, 1), **machine.Host.now().since(host)}
