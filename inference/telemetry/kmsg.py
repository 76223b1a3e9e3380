"""The only door to the kernel log: the faults that NVIDIA's driver writes there, and nothing else of it.

- Reads from the start of what the kernel still holds, so a fault of before this process began is found as well; each
  record carries its own number, by which it is told once.
- Only records of the kernel itself: a program may write to the log, too, and is not believed.
- What else the line says, such as a program's name, is not kept.
"""

from __future__ import annotations

import os
import re
import time
from datetime import datetime, timedelta
from pathlib import Path

from inference.telemetry.rules import Report, Source, pci_place

DEVICE = Path("/dev/kmsg")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_RECORD = re.compile(rb"(\d+),(\d+),(\d+),[^;]*;NVRM: Xid \((PCI:[0-9a-fA-F:.]+)\): (\d{1,4})\b")
_MOST_RECORDS = 10_000
_LARGEST = 8192


class KernelLog:
    """An open kernel log; `why` says in words why there is none."""

    def __init__(self, path: Path = DEVICE) -> None:
        self.why = ""
        self._rest = b""
        self._file: int | None = None
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._boot = BOOT_ID.read_text(encoding="ascii").strip()
        except OSError as error:
            self.close()
            self.why = f"the kernel log cannot be read ({error.strerror}); faults are known from NVML alone"

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def xids(self, *, now: datetime) -> list[Report]:
        """The faults written since the last time; never waits."""
        # The log's clock counts from the start of the machine.
        began = now - timedelta(seconds=time.clock_gettime(time.CLOCK_MONOTONIC))
        found = []
        for _ in range(_MOST_RECORDS):
            lines = self._lines()
            if lines is None:
                break
            found += [report for line in lines if (report := self._report(line, began)) is not None]
        return found

    def _lines(self) -> list[bytes] | None:
        """The next whole lines; None at the end. The device gives one record at a time, a file as much as fits."""
        if self._file is None:
            return None
        try:
            chunk = os.read(self._file, _LARGEST)
        except BlockingIOError:
            return None
        except BrokenPipeError:
            return []  # records were overwritten before they were read: the next one is the oldest there is
        except OSError as error:
            self.why = f"the kernel log can no longer be read ({error.strerror})"
            self.close()
            return None
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return lines

    def _report(self, line: bytes, began: datetime) -> Report | None:
        match = _RECORD.match(line)
        if match is None or int(match[1]) >> 3:  # the facility: 0 is the kernel's own
            return None
        place = pci_place(match[4].decode("ascii"))
        at = began + timedelta(microseconds=int(match[3]))
        token = f"{self._boot}:{int(match[2])}"
        return Report(xid=int(match[5]), place=place, at=at, source=Source.KERNEL, token=token)
