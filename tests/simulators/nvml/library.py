"""Builds the simulated libnvidia-ml.so.1 and injects faults into it. The product's own pynvml path runs against it.

pynvml loads its library by name, so only a process started with this environment sees the simulated one: the test
process itself, and a real card beside it, stay untouched.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")


@dataclass(frozen=True)
class SimulatedNvml:
    """One built library and the file that tells it how its cards are."""

    folder: Path

    @property
    def control(self) -> Path:
        return self.folder / "cards.txt"

    def say(self, *lines: str) -> None:
        """Replace what the cards report. Written aside and renamed, so no call reads half of it."""
        aside = self.folder / "cards.new"
        aside.write_text("".join(line + "\n" for line in lines))
        aside.rename(self.control)

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment_alone()}

    def environment_alone(self) -> dict[str, str]:
        """What must be added to any process's environment, for it to see these cards."""
        return {"LD_LIBRARY_PATH": str(self.folder), "SIMULATED_NVML": str(self.control)}


def build(folder: Path, *, old_driver: bool = False) -> SimulatedNvml:
    """Compile the library into the folder, as gcc would for the real one's name."""
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-Wl,-soname,libnvidia-ml.so.1"]
    if old_driver:
        command.append("-DOLD_DRIVER")
    subprocess.run([*command, "-o", str(folder / "libnvidia-ml.so.1"), str(SOURCE)], check=True)
    simulated = SimulatedNvml(folder)
    simulated.say()
    return simulated
