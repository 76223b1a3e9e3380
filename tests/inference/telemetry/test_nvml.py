"""NVML's one door, against a library with the real name, the real types and the real error codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pynvml

from tests.simulators.nvml import library

ROOT = Path(__file__).resolve().parents[3]

READ = """
import dataclasses, json
from datetime import datetime, UTC
from inference.telemetry.errors import CardLostError, NvmlUnavailableError
from inference.telemetry.nvml import Nvml

told = {"cards": [], "readings": {}, "lost": [], "unavailable": ""}
try:
    with Nvml() as nvml:
        told["driver"] = nvml.driver
        told["cards"] = [dataclasses.asdict(card) for card in nvml.cards]
        for card in nvml.cards:
            try:
                told["readings"][card.index] = dataclasses.asdict(nvml.read(card, at=datetime.now(UTC)))
            except CardLostError:
                told["lost"].append(card.index)
except NvmlUnavailableError as error:
    told["unavailable"] = str(error)
print(json.dumps(told, default=str))
"""


def read(environment: dict[str, str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", READ], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def test_it_reads_every_value_of_a_card(simulated: library.SimulatedNvml) -> None:
    told = read(simulated.environment())

    assert told["driver"] == "580.95.05"
    assert told["cards"] == [
        {
            "uuid": "GPU-5eed0000-0000-4000-8000-000000000000",
            "index": 0,
            "name": "Simulated H200",
            "serial": "1654223000000",
            "pci": "00000000:10:00.0",
            "memory_total": 150754820096,
        }
    ]
    reading = told["readings"]["0"]
    reading.pop("at")
    assert reading == {
        "uuid": "GPU-5eed0000-0000-4000-8000-000000000000",
        "utilisation_percent": 37,
        "memory_used": 12884901888,
        "temperature_c": 41,
        "power_mw": 118000,
        "power_limit_mw": 700000,
        "clock_sm_mhz": 1980,
        "clock_memory_mhz": 3201,
        "ecc_corrected": 0,
        "ecc_uncorrected": 0,
        "throttle": 1,
        "energy_mj": 987654321,
    }


def test_what_a_card_does_not_report_is_unknown_and_never_zero(simulated: library.SimulatedNvml) -> None:
    calls = (
        "utilisation memory temperature power power_limit clock_sm clock_memory "
        "ecc_corrected ecc_uncorrected throttle energy"
    )
    simulated.say(*(f"0 {call} error {pynvml.NVML_ERROR_NOT_SUPPORTED}" for call in calls.split()))

    reading = read(simulated.environment())["readings"]["0"]

    values = {name: value for name, value in reading.items() if name not in {"uuid", "at"}}
    assert values == dict.fromkeys(values)
    assert len(values) == 11


def test_a_reported_zero_stays_a_zero(simulated: library.SimulatedNvml) -> None:
    simulated.say("0 utilisation 0", "0 power 0", "0 memory 0")

    reading = read(simulated.environment())["readings"]["0"]

    assert (reading["utilisation_percent"], reading["power_mw"], reading["memory_used"]) == (0, 0, 0)


def test_an_older_driver_answers_through_its_older_calls(tmp_path: Path) -> None:
    simulated = library.build(tmp_path, old_driver=True)
    simulated.say("0 temperature 66", "0 throttle 64")

    reading = read(simulated.environment())["readings"]["0"]

    assert (reading["temperature_c"], reading["throttle"]) == (66, 64)


def test_a_card_lost_while_running_takes_no_other_with_it(simulated: library.SimulatedNvml) -> None:
    simulated.say("count 2", f"1 temperature error {pynvml.NVML_ERROR_GPU_IS_LOST}")

    told = read(simulated.environment())

    assert told["lost"] == [1]
    assert list(told["readings"]) == ["0"]


def test_a_card_lost_before_start_is_left_out_of_the_inventory(simulated: library.SimulatedNvml) -> None:
    simulated.say("count 2", f"1 handle error {pynvml.NVML_ERROR_GPU_IS_LOST}")

    told = read(simulated.environment())

    assert [card["index"] for card in told["cards"]] == [0]
    assert told["unavailable"] == ""


def test_no_library_is_said_in_words(tmp_path: Path) -> None:
    simulated = library.SimulatedNvml(tmp_path)
    # An empty file under the library's name: the loader refuses it, with or without a real driver on this machine.
    (tmp_path / "libnvidia-ml.so.1").touch()

    told = read(simulated.environment())

    assert told["unavailable"] == "the NVIDIA driver is not installed (libnvidia-ml.so.1 is missing)"


def test_a_driver_that_is_not_loaded_is_said_in_words(simulated: library.SimulatedNvml) -> None:
    simulated.say(f"init {pynvml.NVML_ERROR_DRIVER_NOT_LOADED}")

    assert read(simulated.environment())["unavailable"] == "the NVIDIA driver is installed but not loaded"


def test_a_driver_upgraded_under_us_is_unavailable_and_no_zero(simulated: library.SimulatedNvml) -> None:
    simulated.say(f"0 temperature error {pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH}")

    assert "reboot after a driver upgrade" in read(simulated.environment())["unavailable"]
