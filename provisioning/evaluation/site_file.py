"""Write the site file of an evaluation site: everything under one directory, everything on loopback.

Decides: the layout under that directory and the evaluation's ports and sizes.
Leaves to others: what the keys mean (provisioning.site_config reads the result back before anyone uses it).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from provisioning import site_config

REPOSITORY = Path(__file__).resolve().parents[2]
ENGINE_PYTHON = REPOSITORY / ".engine" / "bin" / "python"
POSTGRES_PORT = 5432  # only part of the socket's file name: nothing listens on TCP

TEMPLATE = """\
# Written by the evaluation site. Change ports with CONSOLE_PORT= and API_PORT= on the make line, not here.
[site]
name = "Isoward evaluation"
serial = "EVAL-0001"
room = "on this desk"
timezone = "UTC"

[paths]
state = "{base}/state"
run = "{base}/run"
secrets = "{base}/secrets"
media = ["{media}"]
trust_root = "{trust_root}"

[postgres]
socket_dir = "{base}/run/postgres"
port = {postgres_port}
database = "isoward"
owner_role = "isoward_owner"
app_role = "isoward_app"
sealer_role = "isoward_sealer"

[redis]
socket = "{base}/run/redis.sock"

[console]
host = "127.0.0.1"
port = {console_port}
tls = false
allowed_hosts = ["127.0.0.1", "localhost"]
workers = 1

[api]
host = "127.0.0.1"
port = {api_port}
tls = false
allowed_hosts = ["127.0.0.1", "localhost"]
workers = 1

[engine]
python = "{engine_python}"
device = "{device}"
start_timeout_s = 600
kv_cache_gib = 1
max_model_len = 1024
max_num_seqs = 8

[gpus]
expected = {gpus}
"""


@dataclass(frozen=True)
class Layout:
    """Where an evaluation site keeps what; `base` is the only directory it writes to."""

    base: Path
    media: Path = REPOSITORY / "offline-bundles"
    trust_root: Path = REPOSITORY / "offline-bundles" / "evaluation-root.json"
    console_port: int = 8800
    api_port: int = 8801
    device: str = "cpu"
    gpus: int = 0

    @property
    def site_file(self) -> Path:
        return self.base / "site.toml"

    @property
    def logs(self) -> Path:
        return self.base / "logs"

    @property
    def postgres(self) -> Path:
        return self.base / "postgres"

    @property
    def redis(self) -> Path:
        return self.base / "redis"

    @property
    def people(self) -> Path:
        return self.base / "people.json"


def end_of(log: Path, lines: int) -> str:
    """A program's last words, for whoever reads the fault; a log that cannot be read is no second fault."""
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return f"(no {log})"


def write(layout: Layout) -> site_config.Site:
    """Make the directories and the site file, read it back, return what it says."""
    for directory in (layout.base / "state" / "static", layout.base / "run", layout.logs):
        directory.mkdir(parents=True, exist_ok=True)
    text = TEMPLATE.format(
        base=layout.base,
        media=layout.media,
        trust_root=layout.trust_root,
        postgres_port=POSTGRES_PORT,
        console_port=layout.console_port,
        api_port=layout.api_port,
        engine_python=ENGINE_PYTHON,
        device=layout.device,
        gpus=layout.gpus,
    )
    partial = layout.site_file.with_suffix(f".{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(layout.site_file)
    return site_config.read(layout.site_file)
