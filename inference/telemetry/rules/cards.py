"""What is known of a card: who it is, how it is this second, and the counters that move slowly; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntFlag

from appliance.alerts.rules import Severity

PREFIX = "gpu."
MISSING = "gpu.missing"
UNEXPECTED = "gpu.unexpected"
UNREADABLE = "gpu.unreadable"
VERSIONS = "gpu.versions"
# Not under PREFIX: the sampler closes what it does not find, and cannot find its own silence.
SILENT = "sampler.silent"

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
class Process:
    """Who holds memory on a card: its number and how much, never its name or its command line."""

    pid: int
    memory: int | None


@dataclass(frozen=True)
class Health:
    """The counters of one card that move slowly; read every ten seconds. None is unknown, which is not zero.

    Volatile memory errors, those since the driver was loaded, are in Reading; these here are of the board's whole life.
    """

    uuid: str
    at: datetime
    ecc_corrected_total: int | None = None
    ecc_uncorrected_total: int | None = None
    retired_pages: int | None = None
    retirement_pending: bool | None = None
    remapped_rows: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    nvlink_errors: int | None = None
    pcie_replays: int | None = None
    mig: bool | None = None
    processes: tuple[Process, ...] | None = None

    @property
    def repair_pending(self) -> bool | None:
        """A repair of its memory waits for a reset."""
        known = [flag for flag in (self.retirement_pending, self.remap_pending) if flag is not None]
        return any(known) if known else None


@dataclass(frozen=True)
class Thresholds:
    """When a reading is worth a person's time. Data-centre cards slow themselves down near 90 °C."""

    warm_c: int = 83
    hot_c: int = 90
    cooled_c: int = 78
    in_a_row: int = 3
    # Link errors within a minute; a few are repaired by sending again and cost nothing.
    nvlink_errors: int = 100
    pcie_replays: int = 10


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, under the key its alert will carry."""

    key: str
    severity: Severity
    title: str
    detail: str
