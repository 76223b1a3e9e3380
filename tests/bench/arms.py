"""The servers that are compared, each a way from the same caller to the same engine.

Decides: how each is started, so that it is at its best: one worker, keep-alive on both sides where it can, no access
log. Leaves to others: what they are asked and in which order (gateway.py).

- direct: nobody in between. nginx: a relay that looks at nothing. gateway: ours, everything on. LiteLLM: the usual one.
- LiteLLM keeps its spend in PostgreSQL through Prisma, whose engines are downloaded from a host of their own when it is
  set up. Where that host cannot be reached it runs without its database, and the results say so.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioning.evaluation import environments
from provisioning.evaluation.environments import REPOSITORY, Stamp
from provisioning.evaluation.steps import Step
from tests.bench import machine
from tests.bench.site import BASE, Appliance, ended, started, status_at

SOURCES = Path(__file__).parent
LOCK = SOURCES / "litellm.lock"
LITELLM = REPOSITORY / ".bench"
PRISMA_S = 60
PROGRAMS = {"gcc": "gcc", "nginx": "nginx-light"}

NGINX = """\
daemon off;
user {user};  # root's worker would become nobody, whom the engine's socket refuses
worker_processes 1;
error_log {base}/{name}.log;
pid {base}/{name}.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {base}/nginx-body;
    proxy_temp_path {base}/nginx-proxy;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    upstream engine {{ server {engine}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host engine;
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Arm:
    """Where to ask, and whose CPU time it is."""

    name: str
    address: str
    pid: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build(name: str) -> Path:
    """Compile one of the C programs here; where they are already newer than their source, nothing happens."""
    source, target = SOURCES / f"{name}.c", BASE / name
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(target), str(source)], check=True)
    return target


@contextmanager
def stub(engine: Path, port: int) -> Iterator[Arm]:
    """The engine that costs nothing, where the gateway looks for its engine and on a port."""
    engine.parent.mkdir(parents=True, exist_ok=True)
    command = [str(build("stub")), str(engine), str(port)]
    process = started(
        command, log=BASE / "stub.log", cpus=machine.OTHER_CPUS, ready=lambda: listening(port) and engine.exists()
    )
    with ended(process):
        yield Arm("direct", f"unix:{engine}", process.pid)


@contextmanager
def nginx(engine: str, name: str = "nginx") -> Iterator[Arm]:
    """A relay to `unix:/path` or `host:port`, with its connections to the engine kept open."""
    port = free_port()
    configuration = BASE / f"{name}.conf"
    configuration.write_text(
        NGINX.format(user=_user(), base=BASE, name=name, engine=engine, port=port), encoding="utf-8"
    )
    command = ["/usr/sbin/nginx", "-c", str(configuration), "-e", str(BASE / f"{name}.log")]
    process = started(command, log=BASE / f"{name}.log", cpus={machine.SERVER_CPU}, ready=lambda: listening(port))
    with ended(process):
        yield Arm(name, f"tcp:{port}", process.pid)


def _user() -> str:
    me, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(os.getegid())
    return f"{me.pw_name} {group.gr_name}"


def fill_litellm(step: Step) -> None:
    """Make .bench from its lock."""
    wanted = Stamp.of([LOCK])
    if Stamp.read(LITELLM) == wanted:
        step.done("as locked")
        return
    uv, python = str(environments.VENV / "bin" / "uv"), str(LITELLM / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", "3.11", str(LITELLM)], check=True)
    hashed = ["--quiet", "--require-hashes", "--only-binary", ":all:"]
    subprocess.run([uv, "pip", "sync", *hashed, "--python", python, str(LOCK)], check=True)
    wanted.write(LITELLM)
    step.done(f"{environments._pins(LOCK)} packages, each file checked by hash")


def prisma() -> str:
    """Fetch the engines of LiteLLM's database; empty when that worked, else the reason in one line."""
    schema = next(LITELLM.glob("lib/python3.*/site-packages/litellm/proxy/schema.prisma"))
    environment = {**os.environ, "PATH": f"{LITELLM / 'bin'}:{os.environ['PATH']}"}
    command = [str(LITELLM / "bin" / "prisma"), "generate", "--schema", str(schema)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PRISMA_S, check=False)
    except subprocess.TimeoutExpired:
        return f"its database engines did not arrive within {PRISMA_S} s"
    if done.returncode == 0:
        return ""
    words = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
    return (words or ["prisma generate failed"])[-1][:300]


@contextmanager
def litellm(running: Appliance, engine_port: int, *, database: bool) -> Iterator[Arm]:
    """One worker, the caller's key as its master key; with its database where that can be had."""
    port = free_port()
    configuration = BASE / "litellm.json"
    parameters = {"model": "openai/stub", "api_base": f"http://127.0.0.1:{engine_port}/v1", "api_key": "none"}
    general = {"master_key": running.key}
    settings = {
        "model_list": [{"model_name": running.model, "litellm_params": parameters}],
        "general_settings": general,
    }
    configuration.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    if database:
        postgres = running.site.postgres
        environment["DATABASE_URL"] = f"postgresql://{postgres.owner_role}@localhost/litellm?host={postgres.socket_dir}"
    environment["PATH"] = f"{LITELLM / 'bin'}:{os.environ['PATH']}"
    command = [str(LITELLM / "bin" / "litellm"), "--config", str(configuration), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1"]
    process = started(
        command,
        log=BASE / "litellm.log",
        cpus={machine.SERVER_CPU},
        ready=lambda: status_at(port, "/health/liveliness") == 200,
        environment=environment,
    )
    with ended(process):
        yield Arm("litellm", f"tcp:{port}", process.pid)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def litellm_version() -> str:
    (found,) = (pin for pin in LOCK.read_text(encoding="utf-8").splitlines() if pin.startswith("litellm=="))
    return found.removeprefix("litellm==").rstrip(" \\")


def nginx_version() -> str:
    done = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True)
    return done.stderr.strip().rpartition("/")[2]
