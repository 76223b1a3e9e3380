"""Say what is being done and how long it took.

Decides: how a step looks on the terminal. Leaves to others: what the steps are.
Standard library only: it runs before .venv exists.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# A terminal gets a line that moves; a log gets a new line this often.
LOG_INTERVAL_S = 10.0
TERMINAL_INTERVAL_S = 0.5


@dataclass
class Step:
    """One step while it runs; `progress` may be called as often as there is news."""

    name: str
    seconds: float = 0.0
    result: str = ""
    _started: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)

    def progress(self, text: str) -> None:
        now = time.monotonic()
        moving = sys.stdout.isatty()
        if now - self._last < (TERMINAL_INTERVAL_S if moving else LOG_INTERVAL_S):
            return
        self._last = now
        line = f"      {text} ({now - self._started:.0f} s)"
        print(f"\r\033[K{line}" if moving else line, end="" if moving else "\n", flush=True)

    def done(self, result: str) -> None:
        """What the step found or made, shown on its closing line."""
        self.result = result


@dataclass
class Steps:
    """All steps of one run, in order, with their times."""

    taken: list[Step] = field(default_factory=list)
    before: int = 0  # steps that another program of the same run took; the count goes on

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        step = Step(name)
        self.taken.append(step)
        print(f"[{self.before + len(self.taken):2}] {name} ...", flush=True)
        try:
            yield step
        except BaseException:
            self._close(step, "failed")
            raise
        self._close(step, step.result or "done")

    def _close(self, step: Step, word: str) -> None:
        step.seconds = round(time.monotonic() - step._started, 3)  # noqa: SLF001 - the two are one thing
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}     {word}  ({step.seconds:.1f} s)", flush=True)

    def as_json(self) -> list[dict[str, str | float]]:
        return [{"name": step.name, "seconds": step.seconds} for step in self.taken]
