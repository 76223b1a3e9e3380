"""What readings mean: each fault beside its healthy neighbour, and the unknown beside both."""

from __future__ import annotations

from datetime import UTC, datetime

from appliance.alerts.rules import Severity
from inference.telemetry import rules

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST, SECOND = "GPU-1", "GPU-2"
LIMITS = rules.Thresholds(warm_c=83, hot_c=90, cooled_c=78, in_a_row=3)


def card(uuid: str, index: int = 0) -> rules.Card:
    return rules.Card(uuid=uuid, index=index, name="H200", serial="1", pci=f"0{index}:00", memory_total=None)


def temperatures(*degrees: int | None, standing: tuple[str, ...] = ()) -> tuple[rules.Finding, ...]:
    history = [rules.Reading(uuid=FIRST, at=NOON, temperature_c=value) for value in degrees]
    return rules.judge(readings={FIRST: history}, thresholds=LIMITS, standing=frozenset(standing))


def inventory(
    expected: int, present: list[rules.Card], *, known: list[rules.Card] | None = None, reason: str = ""
) -> tuple[rules.Finding, ...]:
    return rules.judge_inventory(expected=expected, present=present, known=known or present, reason=reason)


def test_a_missing_card_is_the_alarm_and_is_named() -> None:
    (finding,) = inventory(2, [card(FIRST)], known=[card(FIRST), card(SECOND, 1)])

    assert (finding.key, finding.severity) == (rules.MISSING, Severity.CRITICAL)
    assert SECOND in finding.detail
    assert FIRST not in finding.detail


def test_the_expected_cards_are_no_finding() -> None:
    assert inventory(2, [card(FIRST), card(SECOND, 1)]) == ()


def test_a_card_nobody_expected_is_a_warning() -> None:
    (finding,) = inventory(1, [card(FIRST), card(SECOND, 1)])

    assert (finding.key, finding.severity) == (rules.UNEXPECTED, Severity.WARNING)


def test_no_nvml_is_critical_where_cards_are_expected_and_nothing_where_none_is() -> None:
    (finding,) = inventory(1, [], reason="the driver is not loaded")

    assert (finding.key, finding.detail) == (rules.UNREADABLE, "the driver is not loaded")
    assert inventory(0, [], reason="the driver is not installed") == ()


def test_a_warm_card_is_found_after_three_readings_in_a_row_and_not_after_two() -> None:
    assert temperatures(70, 84, 84) == ()
    (finding,) = temperatures(84, 84, 84)
    assert (finding.key, finding.severity) == (f"gpu.temperature.{FIRST}", Severity.WARNING)


def test_a_hot_card_is_critical() -> None:
    (finding,) = temperatures(91, 90, 95)

    assert finding.severity is Severity.CRITICAL


def test_a_warm_card_stays_found_until_it_is_well_below_the_mark() -> None:
    standing = (f"gpu.temperature.{FIRST}",)

    assert len(temperatures(80, 80, 80, standing=standing)) == 1
    assert temperatures(80, 80, 80) == ()
    assert len(temperatures(77, 77, 79, standing=standing)) == 1
    assert temperatures(77, 77, 77, standing=standing) == ()


def test_an_unknown_temperature_opens_nothing_and_closes_nothing() -> None:
    assert temperatures(None, None, None) == ()
    assert len(temperatures(None, None, None, standing=(f"gpu.temperature.{FIRST}",))) == 1


def test_one_uncorrected_memory_error_is_enough() -> None:
    def errors(count: int | None, *standing: str) -> tuple[rules.Finding, ...]:
        history = [rules.Reading(uuid=FIRST, at=NOON, ecc_uncorrected=count)]
        return rules.judge(readings={FIRST: history}, thresholds=LIMITS, standing=frozenset(standing))

    key = f"gpu.ecc.{FIRST}"
    assert [finding.severity for finding in errors(1)] == [Severity.CRITICAL]
    assert errors(0) == ()
    assert errors(None) == ()
    assert len(errors(None, key)) == 1
    assert errors(0, key) == ()


def test_a_card_slowed_by_heat_is_found_and_one_slowed_by_its_power_cap_is_not() -> None:
    def slowed(bits: int) -> tuple[rules.Finding, ...]:
        history = [rules.Reading(uuid=FIRST, at=NOON, throttle=bits)] * 3
        return rules.judge(readings={FIRST: history}, thresholds=LIMITS, standing=frozenset())

    assert [finding.key for finding in slowed(0x40)] == [f"gpu.throttle.{FIRST}"]
    assert slowed(0x4 | 0x1) == ()


def test_the_reasons_for_slow_clocks_are_named() -> None:
    reading = rules.Reading(uuid=FIRST, at=NOON, throttle=0x44)

    assert reading.throttle_reasons == ("software power cap", "hardware thermal")


def test_one_sick_card_says_nothing_about_the_other() -> None:
    sick = [rules.Reading(uuid=FIRST, at=NOON, temperature_c=95)] * 3
    well = [rules.Reading(uuid=SECOND, at=NOON, temperature_c=50)] * 3

    found = rules.judge(readings={FIRST: sick, SECOND: well}, thresholds=LIMITS, standing=frozenset())

    assert [finding.key for finding in found] == [f"gpu.temperature.{FIRST}"]
