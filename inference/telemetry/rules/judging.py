"""What readings mean; pure. The caller passes the readings, the thresholds and which findings stand already.

- GPUs are an expected inventory: a card that should be there and is not is the alarm.
- Unknown is not well and not ill: a value the card does not report opens nothing and closes nothing.
- A finding opens after several readings in a row and closes at a lower mark than it opened at, so that a card at
  the edge does not ring all night.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from appliance.alerts.rules import Severity
from inference.telemetry.rules.cards import (
    HARMFUL,
    MISSING,
    UNEXPECTED,
    UNREADABLE,
    VERSIONS,
    Card,
    Finding,
    Health,
    Reading,
    Thresholds,
)


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


def judge_versions(*, driver: str | None, library: str | None) -> tuple[Finding, ...]:
    """The library ends with the version of the driver it was built with; another one answers until it does not."""
    if not driver or not library or library == driver or library.endswith("." + driver):
        return ()
    detail = f"The driver is {driver}, its library is {library}: reboot, so that both are of one version"
    return (Finding(VERSIONS, Severity.WARNING, "GPU driver and library differ", detail),)


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


def judge_health(
    *, health: Mapping[str, Sequence[Health]], thresholds: Thresholds, standing: AbstractSet[str]
) -> tuple[Finding, ...]:
    """What the slow counters say of each card: a minute of them, newest last."""
    found = []
    for uuid, history in sorted(health.items()):
        nvlink = [item.nvlink_errors for item in history if item.nvlink_errors is not None]
        pcie = [item.pcie_replays for item in history if item.pcie_replays is not None]
        found += [
            _repair_failed(uuid, history, standing),
            _repair_pending(uuid, history, standing),
            _rising(f"gpu.nvlink.{uuid}", "NVLink errors", uuid, nvlink, thresholds.nvlink_errors, standing),
            _rising(f"gpu.pcie.{uuid}", "PCIe replays", uuid, pcie, thresholds.pcie_replays, standing),
        ]
    return tuple(finding for finding in found if finding is not None)


def _repair_failed(uuid: str, history: Sequence[Health], standing: AbstractSet[str]) -> Finding | None:
    key = f"gpu.repair_failed.{uuid}"
    known = [item.remap_failed for item in history if item.remap_failed is not None]
    if known[-1] if known else key in standing:
        detail = f"{uuid} could not replace a failed row of its memory: it must be exchanged"
        return Finding(key, Severity.CRITICAL, "GPU memory cannot be repaired", detail)
    return None


def _repair_pending(uuid: str, history: Sequence[Health], standing: AbstractSet[str]) -> Finding | None:
    key = f"gpu.repair_pending.{uuid}"
    known = [item.repair_pending for item in history if item.repair_pending is not None]
    if known[-1] if known else key in standing:
        detail = f"{uuid} replaces a part of its memory at its next reset: restart the machine when it suits"
        return Finding(key, Severity.WARNING, "GPU memory repair waits for a reset", detail)
    return None


def _rising(
    key: str, what: str, uuid: str, counts: Sequence[int], limit: int, standing: AbstractSet[str]
) -> Finding | None:
    """A counter that grew by the limit within what is remembered; it stands until it no longer grows at all."""
    # A counter that went down was reset with the card; nothing is known of what lies before that.
    grown = sum(max(0, after - before) for before, after in itertools.pairwise(counts))
    if grown >= limit or (key in standing and (grown > 0 or not counts)):
        detail = f"Errors on the link of {uuid} are rising: check its seat, bridge and cables"
        return Finding(key, Severity.WARNING, f"{what} are rising", detail)
    return None
