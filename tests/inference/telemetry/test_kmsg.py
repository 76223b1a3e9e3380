"""The kernel log as the sampler reads it: NVIDIA's faults, the kernel's own records, nothing else."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from inference.telemetry.kmsg import BOOT_ID, KernelLog
from inference.telemetry.rules import Source

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FALLEN = "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def line(number: int, text: str, *, priority: int = 4, usec: int | None = None) -> str:
    usec = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6) if usec is None else usec
    return f"{priority},{number},{usec},-;{text}\n"


def test_a_fault_is_read_with_its_place_its_time_and_its_record(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    ago = int((time.clock_gettime(time.CLOCK_MONOTONIC) - 90) * 1e6)
    log.write_text(line(1, "usb 1-1: new device") + line(2, FALLEN, usec=ago) + line(3, "NVRM: loading"))

    (report,) = KernelLog(log).xids(now=NOW)

    assert (report.xid, report.place, report.source) == (79, "0000:3b:00", Source.KERNEL)
    assert abs(report.at - (NOW - timedelta(seconds=90))) < timedelta(seconds=1)
    assert report.token == f"{BOOT_ID.read_text().strip()}:2"


def test_each_record_is_told_once_and_half_a_line_waits_for_its_rest(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    whole = line(7, FALLEN)
    log.write_text(whole + line(8, FALLEN)[:40])
    kernel = KernelLog(log)

    assert [report.token.rpartition(":")[2] for report in kernel.xids(now=NOW)] == ["7"]
    assert kernel.xids(now=NOW) == []
    with log.open("a") as file:
        file.write(line(8, FALLEN)[40:])
    assert len(kernel.xids(now=NOW)) == 1


def test_a_program_that_writes_such_a_line_is_not_believed(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text(line(1, FALLEN, priority=12) + line(2, f"sshd: {FALLEN}") + "NVRM: Xid (PCI:0000:3b:00): 79\n")

    assert KernelLog(log).xids(now=NOW) == []


def test_a_log_that_cannot_be_read_is_said_in_words(tmp_path: Path) -> None:
    kernel = KernelLog(tmp_path / "none")

    assert kernel.xids(now=NOW) == []
    assert "kernel log cannot be read" in kernel.why
    assert KernelLog(Path("/dev/null")).why == ""
