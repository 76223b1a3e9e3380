"""What readings mean; pure. The caller passes the readings, the thresholds and which findings stand already.

- GPUs are an expected inventory: a card that should be there and is not is the alarm.
- Unknown is not well and not ill: a value the card does not report opens nothing and closes nothing.
- A finding opens after several readings in a row and closes at a lower mark than it opened at, so that a card at
  the edge does not ring all night.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntFlag

from appliance.alerts.rules import Severity

PREFIX = "gpu."
MISSING = "gpu.missing"
UNEXPECTED = "gpu.unexpected"
UNREADABLE = "gpu.unreadable"

# The sampler ticks every second; a page calls it silent after this long.
SILENT_AFTER = timedelta(seconds=10)


class Throttle(IntFlag):
    """NVML's clock event reasons (nvml.h, nvmlClocksEventReason*), those we name."""

    IDLE = 0x1
    APPLICATION_CLOCKS = 0x2
    SOFTWARE_POWER_CAP = 0x4
    HARDWARE_SLOWDOWN = 0x8
    SYNC_BOOST = 0x10
    SOFTWARE_THERMAL = 0x20
    HARDWARE_THERMAL = 0x40
    POWER_BRAKE = 0x80


# A power cap and idle clocks are how a healthy card runs; these mean the room, the fan or the supply.
HARMFUL = Throttle.HARDWARE_SLOWDOWN | Throttle.HARDWARE_THERMAL | Throttle.POWER_BRAKE


@dataclass(frozen=True)
class Card:
    """Which card this is. The UUID stays with the board; index and bus address are where it sits today."""

    uuid: str
    index: int
    name: str
    serial: str
    pci: str
    memory_total: int | None


@dataclass(frozen=True)
class Reading:
    """One card at one moment; None is unknown."""

    uuid: str
    at: datetime
    utilisation_percent: int | None = None
    memory_used: int | None = None
    temperature_c: int | None = None
    power_mw: int | None = None
    power_limit_mw: int | None = None
    clock_sm_mhz: int | None = None
    clock_memory_mhz: int | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    throttle: int | None = None
    energy_mj: int | None = None

    @property
    def throttle_reasons(self) -> tuple[str, ...]:
        """The bits in words; empty when none is set or none is known."""
        bits = self.throttle or 0
        return tuple(reason.name.lower().replace("_", " ") for reason in Throttle if reason & bits and reason.name)


@dataclass(frozen=True)
class Thresholds:
    """When a reading is worth a person's time. Data-centre cards slow themselves down near 90 °C."""

    warm_c: int = 83
    hot_c: int = 90
    cooled_c: int = 78
    in_a_row: int = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, under the key its alert will carry."""

    key: str
    severity: Severity
    title: str
    detail: str


def judge_inventory(
    *, expected: int, present: Sequence[Card], known: Sequence[Card], reason: str
) -> tuple[Finding, ...]:
    """Compare what is there with what should be. The reason says why nothing could be read, or is empty."""
    if reason:
        if expected == 0:
            return ()
        return (Finding(UNREADABLE, Severity.CRITICAL, f"None of {expected} expected GPUs can be read", reason),)
    if len(present) < expected:
        here = {card.uuid for card in present}
        gone = [f"{card.name} {card.uuid} (bus {card.pci})" for card in known if card.uuid not in here]
        detail = "Missing: " + "; ".join(gone) if gone else "No card seen before is missing: check the expected number."
        title = f"{len(present)} of {expected} expected GPUs present"
        return (Finding(MISSING, Severity.CRITICAL, title, detail),)
    if len(present) > expected:
        title = f"{len(present)} GPUs present, {expected} expected"
        return (Finding(UNEXPECTED, Severity.WARNING, title, "Set expected_gpus in site.toml to what was installed."),)
    return ()


def judge(
    *,
    readings: Mapping[str, Sequence[Reading]],
    thresholds: Thresholds,
    standing: AbstractSet[str],
) -> tuple[Finding, ...]:
    """What is wrong with each card, from its latest readings (newest last) and what already stands."""
    found = []
    for uuid, history in sorted(readings.items()):
        found += [
            _temperature(uuid, history, thresholds, standing),
            _memory_errors(uuid, history, standing),
            _throttled(uuid, history, thresholds, standing),
        ]
    return tuple(finding for finding in found if finding is not None)


def _temperature(
    uuid: str, history: Sequence[Reading], thresholds: Thresholds, standing: AbstractSet[str]
) -> Finding | None:
    key = f"gpu.temperature.{uuid}"
    known = [reading.temperature_c for reading in history if reading.temperature_c is not None]
    recent = known[-thresholds.in_a_row :]
    full = len(recent) == thresholds.in_a_row
    if full and min(recent) >= thresholds.hot_c:
        return Finding(key, Severity.CRITICAL, "GPU is hot", f"{thresholds.hot_c} °C or more on {uuid}")
    warm = full and min(recent) >= thresholds.warm_c
    # It stands until every recent reading is below the lower mark; with none known it stands as well.
    stays = key in standing and not (full and max(recent) < thresholds.cooled_c)
    if warm or stays:
        return Finding(key, Severity.WARNING, "GPU is warm", f"{thresholds.warm_c} °C or more on {uuid}")
    return None


def _memory_errors(uuid: str, history: Sequence[Reading], standing: AbstractSet[str]) -> Finding | None:
    """One uncorrected error is enough: what the card computed since then may be wrong."""
    key = f"gpu.ecc.{uuid}"
    known = [reading.ecc_uncorrected for reading in history if reading.ecc_uncorrected is not None]
    if known[-1] > 0 if known else key in standing:
        return Finding(
            key, Severity.CRITICAL, "GPU memory error", f"Uncorrected ECC errors on {uuid}: drain and reset it"
        )
    return None


def _throttled(
    uuid: str, history: Sequence[Reading], thresholds: Thresholds, standing: AbstractSet[str]
) -> Finding | None:
    key = f"gpu.throttle.{uuid}"
    known = [bool(reading.throttle & HARMFUL) for reading in history if reading.throttle is not None]
    recent = known[-thresholds.in_a_row :]
    full = len(recent) == thresholds.in_a_row
    if (full and all(recent)) or (key in standing and not (full and not any(recent))):
        detail = f"Heat or power holds the clocks of {uuid} down: check fans, room and power supplies"
        return Finding(key, Severity.WARNING, "GPU is slowed down", detail)
    return None
