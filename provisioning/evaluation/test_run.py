"""`make test` and `make check`: install what the tests need, then every check and the whole suite.

Decides: which checks there are and in which order: the quick ones first, pytest last, so that its summary closes the output.
Leaves to others: what is checked (pyproject.toml) and the tests.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from provisioning.evaluation import environments
from provisioning.evaluation.site_file import REPOSITORY
from provisioning.evaluation.steps import Steps

# A program to look for, and the Debian package that brings it.
DEBIAN = {
    "chromium": "chromium",
    "snmptrapd": "snmptrapd",
    "nft": "nftables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "gcc": "gcc",
    "git": "git",
    "openssl": "openssl",
    "node": "nodejs",
    "npm": "npm",
    "slapd": "slapd",
}
HEADERS = {Path("/usr/include/stdlib.h"): "libc6-dev"}
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")

CHECKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ruff", ("-m", "ruff", "check", ".")),
    ("ruff format", ("-m", "ruff", "format", "--check", "--quiet", ".")),
    (
        "import contracts",
        ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"),
    ),
    ("migrations", ("-m", "django", "makemigrations", "--check", "--dry-run")),
    ("mypy", ("-m", "mypy")),
)


def install_packages() -> None:
    """Debian packages that are missing; as root on Debian only, else say what is missing and go on."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *SBIN))
    missing = [package for program, package in DEBIAN.items() if shutil.which(program, path=path) is None]
    missing += [package for header, package in HEADERS.items() if not header.exists()]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"missing and not installable here: {', '.join(missing)}", flush=True)
        return
    with Steps().step(f"Debian packages: {', '.join(missing)}") as step:
        environments.install_debian_packages(step, missing)


def check(environment: dict[str, str]) -> list[str]:
    """Run every static check; return the names of those that failed."""
    failed = []
    for name, arguments in CHECKS:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
        word = "ok" if done.returncode == 0 else "FAILED"
        print(f"{name:<18} {word}  ({time.monotonic() - began:.1f} s)", flush=True)
        if done.returncode != 0:
            failed.append(name)
            print((done.stdout + done.stderr).strip(), flush=True)
    return failed


def main() -> int:
    """`test_run test` or `test_run check`."""
    command = sys.argv[1]
    only = shlex.split(os.environ.get("ONLY", ""))
    path = os.pathsep.join((os.environ.get("PATH", ""), *SBIN))
    environment = {**os.environ, "PATH": path, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    failed = [] if only else check(environment)
    if command == "check":
        return 1 if failed else 0
    install_packages()
    done = subprocess.run([sys.executable, "-m", "pytest", *only], cwd=REPOSITORY, env=environment, check=False)
    if failed:
        print(f"also failed: {', '.join(failed)}", flush=True)
    return done.returncode or (1 if failed else 0)


if __name__ == "__main__":
    sys.exit(main())
