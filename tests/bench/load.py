"""One load on one server: what is asked, by how many at once, for how long, and what it cost.

Decides: the requests (the gateway's own form, the same bytes for every server) and the figures of one measurement.
Leaves to others: which servers in which order (gateway.py), and what the figures mean (judge.py).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.arms import Arm, build
from tests.bench.site import BASE

RECORD = {
    "age": 71,
    "sex": "female",
    "visit_reason": "cough and low fever for six days",
    "diagnoses": ["acute bronchitis", "type 2 diabetes"],
    "codes": ["J20.9", "E11.9"],
    "medications": ["amoxicillin 500 mg", "metformin 850 mg"],
    "plan": "rest, fluids, review in one week",
}


@dataclass(frozen=True)
class Load:
    """A kind of traffic. `tokens` arrive in one burst when `pause_ms` is 0; without `stream` the answer is one object."""

    name: str
    connections: int
    stream: bool
    tokens: int
    pause_ms: int = 0
    seconds: float = 2.0

    def body(self, model: str, record: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [{"role": "user", "content": json.dumps(RECORD if record is None else record)}],
            "metadata": {"task": "progress_note", "purpose": "TREAT"},
            "max_tokens": self.tokens,
            "seed": self.pause_ms,
            "stream": self.stream,
        }


def http(body: dict[str, Any] | bytes, key: str) -> bytes:
    """A whole request as a LAN client sends it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        "Accept: text/event-stream, application/json",
        f"Content-Length: {len(data)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def write_requests(path: Path, requests: Iterable[bytes]) -> Path:
    """In the form that load.c reads."""
    path.write_bytes(b"".join(b"%d\n%s" % (len(request), request) for request in requests))
    return path


def drive(
    address: str,
    requests: Path,
    *,
    connections: int,
    seconds: float,
    tokens: int = 0,
    limit: int = 0,
    cpus: set[int] = machine.OTHER_CPUS,
) -> dict[str, Any]:
    """Run load.c once and return what it counted."""
    command = [str(build("load")), address, str(connections), str(seconds), str(limit), str(tokens), str(requests)]
    with machine.on(cpus):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"load.c against {address} ended with {done.returncode}: {done.stderr.strip()}")
    counted: dict[str, Any] = json.loads(done.stdout)
    return counted


def measure(arm: Arm, load: Load, requests: Path, *, besides: dict[str, int] | None = None) -> dict[str, Any]:
    """One measurement: what the caller counted, and what the server's process tree used for it."""
    trees = {"": arm.pid, **(besides or {})}
    host, before = machine.Host.now(), {name: machine.Tree.of(pid) for name, pid in trees.items()}
    counted = drive(
        arm.address,
        requests,
        connections=load.connections,
        seconds=load.seconds,
        tokens=load.tokens if load.stream else 0,
    )
    after, shares = {name: machine.Tree.of(pid) for name, pid in trees.items()}, machine.Host.now().since(host)
    answers = max(counted["answers"], 1)
    used = {name: 1e6 * (after[name].cpu_s - before[name].cpu_s) for name in trees}
    return {
        **counted,
        "rps": round(counted["answers"] / counted["seconds"], 1),
        "cpu_us": round(used[""] / answers, 2),
        "cpu_us_per_token": round(used[""] / counted["tokens"], 3) if counted["tokens"] else None,
        "rss_mib": round(after[""].rss_mib, 1),
        "switches_voluntary": after[""].voluntary - before[""].voluntary,
        "switches_involuntary": after[""].involuntary - before[""].involuntary,
        **{f"{name}_cpu_us": round(used[name] / answers, 2) for name in trees if name},
        **shares,
    }


def requests_of(load: Load, *, model: str, key: str) -> Path:
    return write_requests(BASE / f"{load.name}.requests", [http(load.body(model), key)])
