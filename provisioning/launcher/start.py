"""From approved to running: a fresh room on disk, an environment from nothing, then `exec`.

Decides what the engine process has around it. Everything here is fixed by us; what people approved is only passed on.

- Caches can execute code and nobody signs them (SECURITY.md 5.2): they live in a private folder, emptied every time.
- The socket's folder is the gate: 0750, with the gateway in its group. The socket itself must then be usable by that
  group, so the umask keeps only the others out.
"""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path
from typing import NoReturn

from provisioning.launcher.arguments import RELEASE
from provisioning.launcher.verify import Approved
from provisioning.site_config import Site

_FOLDERS = ("cache", "config", "home", "rpc", "tmp")


def prepare(site: Site, slot: str) -> Path:
    """An empty private folder for this start, and no socket left from the last one; returns the folder."""
    socket = site.engine_socket(slot)
    socket.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    socket.parent.chmod(0o750)
    socket.unlink(missing_ok=True)
    private = socket.parent / "private"
    if private.is_symlink():
        private.unlink()
    elif private.exists():
        shutil.rmtree(private)
    private.mkdir(mode=0o700)
    for name in _FOLDERS:
        (private / name).mkdir(mode=0o700)
    # vLLM looks for this file under its configuration folder; one switch more, as SECURITY.md asks.
    (private / "config" / "do_not_track").touch()
    return private


def hidden(site: Site) -> tuple[Path, ...]:
    """What no engine has business with: the box's secrets, its servers' sockets, bundles not yet received."""
    return (site.secrets_dir, site.postgres.socket_dir, site.redis_socket, site.quarantine_dir)


def environment(approved: Approved, private: Path, api_key: str) -> dict[str, str]:
    """Nothing inherited. The approved part comes first, so that it cannot replace what we set."""
    return {
        **approved.environment,
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(private / "home"),
        "TMPDIR": str(private / "tmp"),
        "HF_HOME": "/nonexistent",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONFAULTHANDLER": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(private / "cache" / "inductor"),
        "TRITON_CACHE_DIR": str(private / "cache" / "triton"),
        "VLLM_API_KEY": api_key,
        "VLLM_CACHE_ROOT": str(private / "cache" / "vllm"),
        "VLLM_CONFIG_ROOT": str(private / "config"),
        "VLLM_RPC_BASE_PATH": str(private / "rpc"),
        "XDG_CACHE_HOME": str(private / "cache"),
        "XDG_CONFIG_HOME": str(private / "config"),
    }


def command(approved: Approved, site: Site, slot: str) -> list[str]:
    """The whole command line: the release's path and the socket are ours, the rest is what was signed."""
    words = [word.replace(RELEASE, str(approved.release)) for word in approved.arguments]
    head = [str(site.engine.python), "-I", "-B", "-m", "vllm.entrypoints.cli.main", "serve", str(approved.release)]
    return [*head, "--uds", str(site.engine_socket(slot)), *words]


def become_engine(arguments: list[str], variables: dict[str, str], private: Path) -> NoReturn:
    """Never returns: this process is the engine from here on."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o007)
    os.chdir(private / "home")
    os.execve(arguments[0], arguments, variables)  # noqa: S606 - no shell is the point
