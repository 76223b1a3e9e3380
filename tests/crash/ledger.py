"""The client's own book: what the appliance acknowledged, durable before the client believes it.

One line per act, synced to disk one by one. Beside it, the points at which the killer may strike: it asks to be called
at the next act of a kind, and is called before anything else happens.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Ledger:
    """Append only; shared by every client of a campaign."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        self._lock = threading.Lock()
        self._waiting: dict[str, Callable[[], None]] = {}
        self.path = path

    def write(self, act: str, **facts: Any) -> None:
        """Put an act on the books, after whoever waits for this kind of act has struck."""
        with self._lock:
            strike = self._waiting.pop(act, None)
        if strike is not None:
            strike()
        line = json.dumps({"at": time.time(), "act": act, **facts}).encode() + b"\n"
        with self._lock:
            os.write(self._file, line)
            os.fsync(self._file)

    def strike_at(self, act: str, strike: Callable[[], None]) -> None:
        """Call `strike` at the next act of this kind, in the thread that acts."""
        with self._lock:
            self._waiting[act] = strike

    def forget(self, act: str) -> bool:
        """Stop waiting; False when the strike has fallen already."""
        with self._lock:
            return self._waiting.pop(act, None) is not None

    def lines(self) -> list[Line]:
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
