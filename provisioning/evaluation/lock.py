"""`make lock`: resolve every requirements file again and write every lock, each file by its hash.

Decides: the platform locked for (Python 3.11, x86-64, glibc of Debian 12), and wheels only: nothing compiles here.
Leaves to others: installing (environments.py).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from provisioning.evaluation import environments as env

OVERRIDES = env.HERE / "engine-overrides.in"
# Clients of clouds that vLLM asks for and does not import when it serves.
REFUSED = env.HERE / "engine-refused.in"


def overrides(*paths: Path) -> tuple[str, ...]:
    """The arguments to uv that take names out of a lock."""
    return tuple(word for path in paths for word in ("--override", str(path.relative_to(env.REPOSITORY))))


SOURCES: tuple[tuple[Path, Path, tuple[str, ...]], ...] = (
    (env.HERE / "bootstrap.in", env.BOOTSTRAP_LOCK, ()),
    (env.REPOSITORY / "requirements.in", env.RUNTIME_LOCK, ()),
    (env.REPOSITORY / "tests" / "requirements.in", env.TEST_LOCK, ()),
    (env.REPOSITORY / "tests" / "bench" / "litellm.in", env.REPOSITORY / "tests" / "bench" / "litellm.lock", ()),
    (env.HERE / "engine.in", env.ENGINE_LOCKS["cpu"], overrides(OVERRIDES, REFUSED)),
    (env.HERE / "engine-cuda.in", env.ENGINE_LOCKS["cuda"], overrides(REFUSED)),
)
OPTIONS = (
    "--quiet",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--only-binary=:all:",
    "--python-version=3.11",
    "--python-platform=x86_64-manylinux_2_36",
    "--custom-compile-command=make lock",
)


def main() -> int:
    """Write all locks. `make lock UPGRADE=1` takes the newest versions; without it, pins that still fit stay."""
    upgrade = ("--upgrade",) if "--upgrade" in sys.argv[1:] else ()
    for source, target, options in SOURCES:
        words = [str(source.relative_to(env.REPOSITORY)), "--output-file", str(target.relative_to(env.REPOSITORY))]
        command = [str(env.VENV / "bin" / "uv"), "pip", "compile", *OPTIONS, *upgrade, *options, *words]
        print(f"locking {words[2]}", flush=True)
        if subprocess.run(command, cwd=env.REPOSITORY, check=False).returncode != 0:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
