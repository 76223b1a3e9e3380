"""The sampler as its own process: each fault from its injection to its alert and to what is done about the card."""

from __future__ import annotations

import time
from pathlib import Path

import pynvml
import pytest

from appliance.alerts import selectors as alerts
from appliance.alerts.rules import Severity
from inference.telemetry import rules, selectors
from inference.telemetry import services as telemetry
from tests.console.door import records
from tests.inference.telemetry.test_sample_gpus import UUID, sampling, standing
from tests.simulators.nvml import library
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

FIRST = UUID.format(0)
FALLEN = "NVRM: Xid (PCI:0000:10:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def kernel_says(log: Path, number: int, text: str) -> None:
    with log.open("a") as file:
        file.write(f"4,{number},{int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)},-;{text}\n")


def held(uuid: str = FIRST) -> rules.Hold:
    return selectors.one(uuid).held


def test_one_fault_told_by_the_driver_and_the_kernel_is_one_event_quarantined_until_requalified(
    simulated: library.SimulatedNvml, tmp_path: Path
) -> None:
    log = tmp_path / "kmsg"
    log.touch()
    with sampling(simulated.environment(), expected=1, kernel=log):
        until(selectors.cards, 20, "the card is seen")
        simulated.say("event 1 0 79")
        kernel_says(log, 5, FALLEN)
        until(lambda: held() is rules.Hold.QUARANTINED, 10, "the card is held")

        both = frozenset({rules.Source.DRIVER, rules.Source.KERNEL})
        until(lambda: [event.sources for event in selectors.events()] == [both], 10, "both told one event")
        (alert,) = alerts.standing()
        assert (alert.key, alert.severity) == (f"gpu.xid.79.{FIRST}", Severity.CRITICAL)
        assert "Tell the vendor" in alert.detail

        telemetry.acknowledge_event(actor="erin", event_id=selectors.events()[0].id)
        until(lambda: standing() == set(), 10, "its alert closes")
        assert held() is rules.Hold.QUARANTINED
        telemetry.requalify(actor="erin", uuid=FIRST)
        before = selectors.sampler().at
        until(lambda: selectors.sampler().at != before, 10, "the sampler has had another turn")
        assert held() is rules.Hold.NONE
    acts = [row.action for row in records() if row.action.startswith("gpu.")]
    assert acts == ["gpu.requalified", "gpu.event_acknowledged", "gpu.quarantined"]


def test_a_fault_of_before_the_sampler_began_is_found_and_told_once(
    simulated: library.SimulatedNvml, tmp_path: Path
) -> None:
    log = tmp_path / "kmsg"
    log.touch()
    kernel_says(log, 5, FALLEN)
    for _ in range(2):
        with sampling(simulated.environment(), expected=1, kernel=log):
            started = selectors.sampler().at
            until(lambda: selectors.sampler().at != started, 20, "a turn is over")  # noqa: B023 - used in this turn
            until(selectors.events, 10, "the event is there")
    assert [event.xid for event in selectors.events()] == [79]


@pytest.mark.parametrize(
    ("lines", "keys", "hold"),
    [
        (["event 1 0 13"], [], rules.Hold.NONE),
        (["0 remap_pending 1"], [f"gpu.repair_pending.{FIRST}"], rules.Hold.NONE),
        (["0 remap_failed 1"], [f"gpu.repair_failed.{FIRST}"], rules.Hold.QUARANTINED),
        (["0 ecc_uncorrected 1"], [f"gpu.ecc.{FIRST}"], rules.Hold.QUARANTINED),
        (["library 1"], ["gpu.versions"], rules.Hold.NONE),
        (["event 1 0 9999"], [f"gpu.xid.9999.{FIRST}"], rules.Hold.DRAINED),
    ],
)
def test_each_injected_fault_becomes_its_alert_and_its_hold(
    simulated: library.SimulatedNvml, lines: list[str], keys: list[str], hold: rules.Hold
) -> None:
    simulated.say(*lines)
    with sampling(simulated.environment(), expected=1):
        until(lambda: selectors.cards() and selectors.one(FIRST).health, 20, "the card is read")
        until(lambda: standing() == set(keys) and held() is hold, 10, "alert and hold are there")


def test_a_driver_that_hangs_is_an_alert_and_over_when_the_call_returns(simulated: library.SimulatedNvml) -> None:
    with sampling(simulated.environment(), expected=1) as process:
        until(selectors.cards, 20, "the card is seen")
        simulated.say("0 power hang")
        until(lambda: standing() == {rules.UNREADABLE}, 15, "the hang is an alert")
        assert "does not come back" in selectors.sampler().reason
        assert selectors.sampler().alive
        simulated.say()
        until(lambda: standing() == set() and selectors.sampler().present == 1, 15, "reading goes on")
        assert process.poll() is None


def test_a_driver_that_hangs_for_long_ends_the_process_so_that_it_is_started_anew(
    simulated: library.SimulatedNvml,
) -> None:
    with sampling(simulated.environment(), expected=1, give_up_s=2.0, ends=1) as process:
        until(selectors.cards, 20, "the card is seen")
        simulated.say("0 power hang")
        until(lambda: process.poll() is not None, 20, "the process ends by itself")


def test_a_card_that_cannot_say_its_counters_is_no_finding(simulated: library.SimulatedNvml) -> None:
    calls = "retirement_pending remapped nvlink nvlink_errors pcie_replays mig processes"
    simulated.say(*(f"0 {call} error {pynvml.NVML_ERROR_NOT_SUPPORTED}" for call in calls.split()))
    with sampling(simulated.environment(), expected=1):
        until(lambda: selectors.cards() and selectors.one(FIRST).health, 20, "the card is read")
        assert standing() == set()
        health = selectors.one(FIRST).health
        assert health is not None
        assert (health.mig, health.nvlink_errors, health.processes) == (None, None, None)
