"""The slow counters, the fault reports and the hung call, through the real pynvml over the simulated library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.simulators.nvml import library

ROOT = Path(__file__).resolve().parents[3]

READ = """
import dataclasses, json
from datetime import datetime, UTC
from inference.telemetry.nvml import Nvml

now = datetime.now(UTC)
with Nvml() as nvml:
    told = {"library": nvml.library, "health": {}, "reports": []}
    for card in nvml.cards:
        told["health"][card.index] = dataclasses.asdict(nvml.health(card, at=now))
    told["reports"] = [[[r.xid, r.place, r.source] for r in nvml.xids(at=now)] for _ in range(2)]
print(json.dumps(told, default=str))
"""


def run(program: str, environment: dict[str, str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def health(simulated: library.SimulatedNvml, *lines: str) -> dict[str, Any]:
    simulated.say(*lines)
    found: dict[str, Any] = run(READ, simulated.environment())["health"]["0"]
    return {name: value for name, value in found.items() if name not in {"uuid", "at"}}


def test_a_well_card_counts_nothing_and_says_so(simulated: library.SimulatedNvml) -> None:
    assert health(simulated) == {
        "ecc_corrected_total": 0,
        "ecc_uncorrected_total": 0,
        "retired_pages": 0,
        "retirement_pending": False,
        "remapped_rows": 0,
        "remap_pending": False,
        "remap_failed": False,
        "nvlink_errors": 0,
        "pcie_replays": 0,
        "mig": False,
        "processes": [],
    }


def test_every_fault_that_can_be_injected_is_read(simulated: library.SimulatedNvml) -> None:
    assert health(
        simulated,
        "0 ecc_corrected_total 12",
        "0 ecc_uncorrected_total 3",
        "0 retired_single 4",
        "0 retired_double 1",
        "0 retirement_pending 1",
        "0 remapped 2",
        "0 remapped_uncorrected 5",
        "0 remap_pending 1",
        "0 remap_failed 1",
        "0 nvlink_errors 9",
        "0 pcie_replays 8",
        "0 mig 1",
        "0 processes 2",
    ) == {
        "ecc_corrected_total": 12,
        "ecc_uncorrected_total": 3,
        "retired_pages": 5,
        "retirement_pending": True,
        "remapped_rows": 7,
        "remap_pending": True,
        "remap_failed": True,
        "nvlink_errors": 9,
        "pcie_replays": 8,
        "mig": True,
        "processes": [{"pid": 4000, "memory": 1 << 30}, {"pid": 4001, "memory": 2 << 30}],
    }


def test_what_a_card_cannot_say_is_unknown_and_never_zero(simulated: library.SimulatedNvml) -> None:
    calls = (
        "ecc_corrected_total ecc_uncorrected_total retired_single retired_double retirement_pending remapped nvlink "
        "nvlink_errors pcie_replays mig processes"
    )
    found = health(simulated, *(f"0 {call} error {pynvml.NVML_ERROR_NOT_SUPPORTED}" for call in calls.split()))

    assert found == dict.fromkeys(found)


def test_a_fault_is_told_once_with_the_place_of_its_card(simulated: library.SimulatedNvml) -> None:
    simulated.say("count 2", "event 1 1 79", "event 2 0 13")

    assert run(READ, simulated.environment())["reports"] == [
        [[79, "0000:11:00", "driver"], [13, "0000:10:00", "driver"]],
        [],
    ]


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_GPU_IS_LOST])
def test_a_card_that_tells_of_no_faults_is_read_all_the_same(simulated: library.SimulatedNvml, error: int) -> None:
    simulated.say(f"0 events error {error}", "event 1 0 79")

    told = run(READ, simulated.environment())

    assert told["reports"] == [[], []]
    assert told["health"]["0"]["mig"] is False


def test_the_librarys_own_version_is_read(simulated: library.SimulatedNvml) -> None:
    assert run(READ, simulated.environment())["library"] == "13.580.95.05"
    simulated.say("library 1")
    assert run(READ, simulated.environment())["library"] == "13.590.44.01"


HANG = """
import json, sys
from datetime import datetime, UTC
from pathlib import Path
from inference.telemetry.errors import HungError
from inference.telemetry.nvml import Nvml, Thread

control = Path(sys.argv[1]) if len(sys.argv) > 1 else None
thread, said = Thread(), []
nvml = thread.call(Nvml, within_s=10)
look = lambda: nvml.read(nvml.cards[0], at=datetime.now(UTC)).power_mw
said.append(thread.call(look, within_s=10))
import os
where = Path(os.environ["SIMULATED_NVML"])
where.write_text("0 power hang\\n")
for _ in range(2):
    try:
        said.append(thread.call(look, within_s=0.2))
    except HungError as error:
        said.append("hung" if thread.hung_s > 0.1 else "?")
where.write_text("0 power 5\\n")
while thread.hung_s:
    pass
said.append(thread.call(look, within_s=10))
print(json.dumps(said))
"""


def test_a_call_that_hangs_is_given_up_and_reading_goes_on_once_it_returns(simulated: library.SimulatedNvml) -> None:
    assert run(HANG, simulated.environment()) == [118000, "hung", "hung", 5]
