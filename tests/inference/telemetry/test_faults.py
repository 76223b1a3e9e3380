"""From a fault to what is done about it: pure decisions, each beside its milder neighbour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from appliance.alerts.rules import Severity
from inference.telemetry import rules
from inference.telemetry.errors import NotWellError
from inference.telemetry.rules import Action, Fault, FaultClass, Hold

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = rules.Thresholds()
CARD = rules.Card(uuid="GPU-1", index=0, name="H200", serial="165", pci="00000000:3B:00.0", memory_total=200)


def event(xid: int, number: int = 1, *, at: datetime = NOON, source: rules.Source = rules.Source.DRIVER) -> rules.Event:
    return rules.Event(id=number, xid=xid, place="0000:3b:00", uuid="GPU-1", at=at, sources=frozenset({source}))


def decide(*xids: int, held: Hold = Hold.NONE) -> rules.Decision:
    events = [event(xid, number) for number, xid in enumerate(xids)]
    return rules.decide(rules.faults_of((), events), rules.DEFAULTS, held=held)


@pytest.mark.parametrize(
    ("xid", "action", "hold"),
    [
        (13, Action.IGNORE, Hold.NONE),
        (31, Action.IGNORE, Hold.NONE),
        (43, Action.IGNORE, Hold.NONE),
        (63, Action.IGNORE, Hold.NONE),
        (94, Action.RESTART, Hold.NONE),
        (48, Action.QUARANTINE, Hold.QUARANTINED),
        (95, Action.QUARANTINE, Hold.QUARANTINED),
        (74, Action.QUARANTINE, Hold.QUARANTINED),
        (119, Action.QUARANTINE, Hold.QUARANTINED),
        (64, Action.CALL_VENDOR, Hold.QUARANTINED),
        (79, Action.CALL_VENDOR, Hold.QUARANTINED),
        (9999, Action.DRAIN, Hold.DRAINED),
    ],
)
def test_what_is_done_about_each_report(xid: int, action: Action, hold: Hold) -> None:
    decision = decide(xid)
    assert (decision.action, decision.hold) == (action, hold)
    assert decision.reason.endswith(".")


def test_the_strongest_action_counts_and_a_restart_is_asked_for_all_the_same() -> None:
    decision = decide(13, 94, 79)
    assert decision.action is Action.CALL_VENDOR
    assert [fault.occasion for fault in decision.restarts] == ["xid:1"]


def test_a_drain_ends_with_its_fault_and_a_quarantine_does_not() -> None:
    assert decide(held=Hold.DRAINED).hold is Hold.NONE
    assert decide(held=Hold.QUARANTINED).hold is Hold.QUARANTINED
    assert decide(9999, held=Hold.QUARANTINED).hold is Hold.QUARANTINED


def test_every_kind_of_fault_has_a_line_with_a_reason() -> None:
    assert set(rules.DEFAULTS) == set(FaultClass)
    assert all(line.reason.endswith(".") for line in rules.DEFAULTS.values())


def test_a_programs_own_fault_rings_nobody_and_the_others_say_what_is_done() -> None:
    assert rules.event_findings([event(13), event(31), event(43)]) == ()
    (finding,) = rules.event_findings([event(94), event(94, 2)])
    assert (finding.severity, finding.detail) == (Severity.WARNING, "XID 94 from GPU-1, 2 times")
    told = rules.told(finding, rules.DEFAULTS, card=CARD, driver="580")
    assert told.detail.startswith("XID 94 from GPU-1, 2 times. Action: restart. Only the program")


def test_what_the_vendor_must_be_told_stands_in_the_alert() -> None:
    (finding,) = rules.event_findings([event(64)])
    told = rules.told(finding, rules.DEFAULTS, card=CARD, driver="580.95.05")
    assert told.severity is Severity.CRITICAL
    for part in ("Tell the vendor", "serial 165", "GPU-1", "bus 00000000:3B:00.0", "driver 580.95.05"):
        assert part in told.detail


@pytest.mark.parametrize(
    ("xid", "place", "after", "source", "merged"),
    [
        (79, "0000:3b:00", 4, rules.Source.KERNEL, True),
        (79, "0000:3b:00", -4, rules.Source.KERNEL, True),
        (79, "0000:3b:00", 4, rules.Source.DRIVER, False),
        (79, "0000:3b:00", 6, rules.Source.KERNEL, False),
        (74, "0000:3b:00", 4, rules.Source.KERNEL, False),
        (79, "0000:3c:00", 4, rules.Source.KERNEL, False),
    ],
)
def test_two_reports_are_one_event_only_from_two_sources_of_one_card_at_one_time(
    xid: int, place: str, after: int, source: rules.Source, merged: bool
) -> None:
    report = rules.Report(xid, place, NOON + timedelta(seconds=after), source)
    assert (rules.same(report, [event(79)]) is not None) == merged


@pytest.mark.parametrize("text", ["00000000:3B:00.0", "PCI:0000:3b:00", "0000:3b:00"])
def test_a_bus_address_is_the_same_whoever_writes_it(text: str) -> None:
    assert rules.pci_place(text) == "0000:3b:00"
    assert rules.pci_place("not one") == ""


WELL = rules.Reading(uuid="GPU-1", at=NOON, ecc_uncorrected=0)
COUNTED = rules.Health(uuid="GPU-1", at=NOON, remap_failed=False)


def requalify(
    *, present: bool = True, reading: rules.Reading | None = WELL, health: rules.Health | None = COUNTED,
    faults: tuple[str, ...] = (),
) -> str:  # fmt: skip
    try:
        rules.check_can_requalify(present=present, reading=reading, health=health, faults=faults, now=NOON)
    except NotWellError as error:
        return error.code
    return ""


def test_a_card_is_requalified_only_when_it_is_read_and_nothing_stands() -> None:
    assert requalify() == ""
    assert requalify(present=False) == "gpu_not_read"
    assert requalify(reading=rules.Reading(uuid="GPU-1", at=NOON - timedelta(minutes=1))) == "gpu_not_read"
    assert requalify(health=None) == "gpu_not_read"
    assert requalify(faults=("GPU memory error",)) == "gpu_fault_stands"
    assert requalify(reading=rules.Reading(uuid="GPU-1", at=NOON, ecc_uncorrected=2)) == "gpu_memory_errors"
    assert requalify(health=rules.Health(uuid="GPU-1", at=NOON, remap_failed=True)) == "gpu_memory_worn"


def test_work_stops_unless_the_engine_is_seen_on_other_cards_alone() -> None:
    assert not rules.blocks_work(held=(), processes={"a": 1})
    assert rules.blocks_work(held=("a",), processes={"a": 1})
    assert rules.blocks_work(held=("a",), processes={"a": 0})
    assert rules.blocks_work(held=("a",), processes={"a": None, "b": 2})
    assert not rules.blocks_work(held=("a",), processes={"a": 0, "b": 2})


def health_keys(*counts: int | None, standing: frozenset[str] = frozenset()) -> list[str]:
    history = [rules.Health(uuid="GPU-1", at=NOON, nvlink_errors=count) for count in counts]
    found = rules.judge_health(health={"GPU-1": history}, thresholds=LIMITS, standing=standing)
    return [finding.key for finding in found]


def test_link_errors_ring_when_they_rise_and_stand_until_they_no_longer_do() -> None:
    key, standing = "gpu.nvlink.GPU-1", frozenset({"gpu.nvlink.GPU-1"})
    assert health_keys(5, 104) == []
    assert health_keys(5, 105) == [key]
    assert health_keys(105, 106, standing=standing) == [key]
    assert health_keys(106, 106, standing=standing) == []
    assert health_keys(900, 3) == [], "a counter that was reset did not rise"
    assert health_keys(None, None, standing=standing) == [key]


def test_memory_that_waits_for_a_repair_is_a_warning_and_memory_beyond_it_critical() -> None:
    history = [rules.Health(uuid="GPU-1", at=NOON, remap_pending=True, remap_failed=True)]
    found = rules.judge_health(health={"GPU-1": history}, thresholds=LIMITS, standing=frozenset())
    assert [(finding.key, finding.severity) for finding in found] == [
        ("gpu.repair_failed.GPU-1", Severity.CRITICAL),
        ("gpu.repair_pending.GPU-1", Severity.WARNING),
    ]
    assert rules.judge_health(health={"GPU-1": []}, thresholds=LIMITS, standing=frozenset()) == ()


def test_a_library_of_another_version_than_the_driver_is_said() -> None:
    assert rules.judge_versions(driver="580.95.05", library="13.580.95.05") == ()
    assert rules.judge_versions(driver=None, library="13.580.95.05") == ()
    (finding,) = rules.judge_versions(driver="580.95.05", library="13.590.44.01")
    assert (finding.key, finding.severity) == (rules.VERSIONS, Severity.WARNING)


def test_a_fault_of_no_single_card_has_no_kind() -> None:
    assert rules.kind_of("gpu.missing") is None
    assert rules.kind_of("gpu.xid.79.GPU-1") is FaultClass.BUS
    assert rules.kind_of("gpu.ecc.GPU-1") is FaultClass.UNCORRECTED_MEMORY
    assert Fault("GPU-1", FaultClass.BUS, "k", "t").occasion == ""
