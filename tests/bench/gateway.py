"""`make bench-gateway`: what the LAN API costs, beside nginx, beside LiteLLM, and beside the engine alone.

Decides: the arms, the loads, their order and the goals (issue 3, PERFORMANCE.md 5). Every figure of ours is with the
durable audit on: both records of a request are committed by a real PostgreSQL with fsync.

- The arms take turns, and who begins moves on with each repetition, so that a machine that slows down slows all.
- `gateway_again` is the same process under another name: the spread of its ratio to `gateway` is the error bar.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import metadata
from typing import Any

from provisioning.evaluation.steps import Steps
from tests.bench import arms, engine, machine, results, site
from tests.bench.arms import Arm
from tests.bench.judge import Goal, Repetition, of_load, ratio
from tests.bench.load import Load, measure, requests_of

REPETITIONS = int(os.environ.get("BENCH_REPETITIONS") or 5)
SECONDS = float(os.environ.get("BENCH_SECONDS") or 2)
WITHOUT = frozenset((os.environ.get("BENCH_WITHOUT") or "").split())
"""Parts to leave out while working on something: litellm, engine. Their goals are then not judged."""
INSERTS = 400
WARM_TURNS = 12

LOADS = (
    Load("stream", connections=32, stream=True, tokens=17, seconds=SECONDS),
    Load("whole", connections=32, stream=False, tokens=17, seconds=SECONDS),
    Load("paced", connections=64, stream=True, tokens=100, pause_ms=20, seconds=SECONDS),
    Load("stream_alone", connections=1, stream=True, tokens=17, seconds=SECONDS / 2),
    Load("whole_alone", connections=1, stream=False, tokens=17, seconds=SECONDS / 2),
)
"""17 tokens are 20 events on the engine's wire: the role, the tokens, the usage and [DONE]."""

SKIPPED = {
    # 64 streams at 50 events a second are more than one worker of LiteLLM carries: it would measure only its own queue.
    "litellm": {"paced"},
    "nginx_tcp": {"whole", "stream_alone", "whole_alone"},
}


def added(load: str, part: str) -> Any:
    """The gateway's median over the engine's own, in commits: one INSERT with COMMIT of the same repetition is 1."""

    def value(repetition: Repetition) -> float | None:
        found = repetition["loads"].get(load)
        if found is None:
            return None
        return float((found["gateway"][part]["p50"] - found["direct"][part]["p50"]) / repetition["insert_us"])

    return value


def summed(figure: str) -> Any:
    """Of our own arms, all loads together."""
    return lambda repetition: float(
        sum(counted[figure] for found in repetition["loads"].values() for counted in _ours(found))
    )


def _ours(found: Any) -> list[Any]:
    return [found[name] for name in ("gateway", "gateway_again")]


GOALS = (
    Goal(
        "cpu_stream", "CPU per 20-event stream, of nginx's", ratio("stream", "cpu_us", "gateway", "nginx"), at_most=2.0
    ),
    Goal(
        "cpu_stream_tcp",
        "the same, of an nginx that reaches the engine over TCP",
        ratio("stream", "cpu_us", "gateway", "nginx_tcp"),
    ),
    Goal(
        "cpu_paced_event",
        "CPU per paced event, of nginx's",
        ratio("paced", "cpu_us_per_token", "gateway", "nginx"),
        at_most=2.0,
    ),
    Goal(
        "cpu_paced_event_tcp",
        "the same, of an nginx that reaches the engine over TCP",
        ratio("paced", "cpu_us_per_token", "gateway", "nginx_tcp"),
    ),
    Goal(
        "added_first",
        "added p50 to the first event, one caller, durable intent included, in INSERTs with COMMIT",
        added("stream_alone", "first_us"),
        at_most=1.6,
    ),
    Goal(
        "added_stream",
        "added p50 to the end of the stream, durable intent and outcome, in INSERTs with COMMIT",
        added("stream_alone", "whole_us"),
    ),
    Goal(
        "added_whole",
        "added p50 of an answer in one piece, durable intent and outcome, in INSERTs with COMMIT",
        added("whole_alone", "whole_us"),
    ),
    Goal(
        "rps_stream",
        "streams per second and core, of LiteLLM's",
        ratio("stream", "rps", "gateway", "litellm"),
        at_least=25,
    ),
    Goal(
        "rps_whole",
        "answers per second and core, of LiteLLM's",
        ratio("whole", "rps", "gateway", "litellm"),
        at_least=25,
    ),
    Goal("cpu_litellm_stream", "CPU per stream of LiteLLM, of ours", ratio("stream", "cpu_us", "litellm", "gateway")),
    Goal("cpu_litellm_whole", "CPU per answer of LiteLLM, of ours", ratio("whole", "cpu_us", "litellm", "gateway")),
    Goal("events_lost", "events lost, all loads", summed("lost"), at_most=0, always=True),
    Goal("not_whole", "answers of ours that were not whole, all loads", summed("faults"), at_most=0, always=True),
    Goal(
        "gap_p99_us",
        "p99 of the added gap between events, 64 paced streams, microseconds",
        of_load("paced", lambda arms: max(counted["gap_us"]["p99"] for counted in _ours(arms))),
        at_most=1000,
    ),
    Goal(
        "gap_p99_us_nginx",
        "the same behind nginx",
        of_load("paced", lambda arms: float(arms["nginx"]["gap_us"]["p99"])),
    ),
    Goal(
        "gap_p99_us_direct",
        "the same without anybody",
        of_load("paced", lambda arms: float(arms["direct"]["gap_us"]["p99"])),
    ),
    Goal(
        "again_stream",
        "the gateway against itself: CPU per stream",
        ratio("stream", "cpu_us", "gateway_again", "gateway"),
    ),
    Goal(
        "again_paced", "the gateway against itself: CPU per event", ratio("paced", "cpu_us", "gateway_again", "gateway")
    ),
)


def main() -> int:
    site.BASE.mkdir(parents=True, exist_ok=True)
    steps = Steps()
    with steps.step("programs: gcc, nginx") as step:
        machine.install(step, arms.PROGRAMS)
        arms.build("load")
    without = _litellm(steps)
    notes = [f"LiteLLM runs without its database: {without}"] if without else []
    facts = machine.facts(site.BASE)
    with site.appliance(arms.free_port(), litellm_database=not without) as appliance:
        with ExitStack() as running:
            with steps.step("appliance, nginx, LiteLLM and the stub"):
                servers = _start(running, appliance, database=not without)
            with steps.step("warming up"):
                _warm(servers, appliance)
            repetitions = [_repetition(steps, number, servers, appliance) for number in range(REPETITIONS)]
        real = [] if "engine" in WITHOUT else engine.repetitions(steps, appliance)
        facts["settings"] = site.settings(appliance)
    facts["versions"] = {"litellm": arms.litellm_version(), "nginx": arms.nginx_version(), **_versions()}
    found = results.judged("gateway", repetitions, GOALS, control="nginx", machine=facts, notes=notes)
    results.add(found, real, engine.GOALS)
    results.write(found)
    return 0


def _litellm(steps: Steps) -> str:
    """Make its environment and try for its database; why it has none, in one line."""
    if "litellm" in WITHOUT:
        return "it was left out of this run"
    with steps.step("environment .bench (LiteLLM) from its lock") as step:
        arms.fill_litellm(step)
    with steps.step("the engines of LiteLLM's database") as step:
        why = arms.prisma()
        step.done(why or "there")
    return why


def _versions() -> dict[str, str]:
    return {
        name: metadata.version(name) for name in ("gunicorn", "uvloop", "httptools", "aiohttp", "psycopg", "msgspec")
    }


def _start(running: ExitStack, appliance: site.Appliance, *, database: bool) -> list[Arm]:
    engine_port, socket = arms.free_port(), appliance.site.engine_socket("a")
    direct = running.enter_context(arms.stub(socket, engine_port))
    relay = running.enter_context(arms.nginx(f"unix:{socket}"))
    other = running.enter_context(arms.nginx(f"127.0.0.1:{engine_port}", "nginx_tcp"))
    gateway = running.enter_context(site.api(appliance, {machine.SERVER_CPU}))
    address = f"tcp:{appliance.layout.api_port}"
    servers = [direct, relay, other, Arm("gateway", address, gateway), Arm("gateway_again", address, gateway)]
    if "litellm" not in WITHOUT:
        servers.insert(4, running.enter_context(arms.litellm(appliance, engine_port, database=database)))
    return servers


def _warm(servers: Sequence[Arm], appliance: site.Appliance) -> None:
    """Until three turns in a row agree within a tenth: LiteLLM imports and compiles as it goes."""
    load = Load("warm", connections=8, stream=True, tokens=17, seconds=SECONDS / 2)
    requests = requests_of(load, model=appliance.model, key=appliance.key)
    for arm in servers:
        seen: list[float] = []
        for _ in range(WARM_TURNS):
            seen.append(measure(arm, load, requests)["rps"])
            if len(seen) >= 3 and max(seen[-3:]) < 1.1 * min(seen[-3:]):
                break


def _repetition(steps: Steps, number: int, servers: Sequence[Arm], appliance: site.Appliance) -> dict[str, Any]:
    turn = number % len(servers)
    order = [*servers[turn:], *servers[:turn]]
    loads: dict[str, dict[str, Any]] = {}
    with steps.step(f"repetition {number + 1} of {REPETITIONS}") as step:
        insert_us = site.insert_us(appliance, INSERTS)
        for load in LOADS:
            requests = requests_of(load, model=appliance.model, key=appliance.key)
            for arm in order:
                if load.name in SKIPPED.get(arm.name, ()):
                    continue
                step.progress(f"{load.name} on {arm.name}")
                besides = {"postgres": appliance.database.pid} if arm.name.startswith("gateway") else {}
                loads.setdefault(load.name, {})[arm.name] = measure(arm, load, requests, besides=besides)
        cpu = {name: counted["cpu_us"] for name, counted in loads["stream"].items() if name != "direct"}
        step.done(", ".join(f"{name} {value:.0f}" for name, value in cpu.items()) + " us of CPU per stream")
    return {"order": [arm.name for arm in order], "insert_us": insert_us, "loads": loads}
