"""The GPU page: each fault from its report to the held card and back, the policy, the past, and what each role may do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from appliance.changes import selectors as changes
from inference.telemetry import rules
from inference.telemetry import selectors as telemetry
from inference.telemetry import services as acting
from tests.console.conftest import Enter
from tests.console.door import records, text

pytestmark = pytest.mark.django_db

CARD = rules.Card(
    uuid="GPU-5eed0000-0000-4000-8000-000000000000", index=0, name="NVIDIA H200", serial="1654223000000",
    pci="00000000:3B:00.0", memory_total=150_754_820_096,
)  # fmt: skip


def see(*xids: int) -> None:
    """The sampler's turn: the card is there and well, and these faults were reported."""
    now = timezone.now()
    reading = rules.Reading(
        uuid=CARD.uuid, at=now, temperature_c=41, power_mw=118_000, power_limit_mw=700_000, utilisation_percent=37,
        memory_used=12_884_901_888, ecc_uncorrected=0, ecc_corrected=2, energy_mj=7_200_000_000, clock_sm_mhz=1980,
    )  # fmt: skip
    health = rules.Health(
        uuid=CARD.uuid, at=now, ecc_uncorrected_total=1, ecc_corrected_total=40, remapped_rows=2, remap_pending=True,
        nvlink_errors=3, pcie_replays=4, mig=False, processes=(rules.Process(4000, 1 << 30),),
    )  # fmt: skip
    acting.store(cards=[CARD], readings=[reading], at=now)
    acting.keep_health(health=[health])
    acting.beat(
        at=now, started_at=now, driver="580.95.05", library="13.580.95.05", present=1, expected=1, reason="",
        deaf="the kernel log cannot be read (Permission denied); faults are known from NVML alone",
    )  # fmt: skip
    acting.hear(reports=[rules.Report(xid, "0000:3b:00", now, rules.Source.DRIVER) for xid in xids])
    events, policy = telemetry.open_events(), telemetry.policy()
    findings = [rules.told(f, policy, card=CARD, driver="580.95.05") for f in rules.event_findings(events)]
    acting.settle(actor="sampler", findings=findings)
    acting.act(actor="sampler", faults=rules.faults_of((), events), policy=policy)


def test_every_reading_of_a_card_is_on_its_page_in_words(door: Enter) -> None:
    see()
    page = text(door("bob").get("/gpus"))
    for words in (
        "1 of 1 expected cards present", "12.0 GiB of 140.4 GiB", "2.0 kWh since the driver was loaded",
        "0 uncorrected, 2 corrected since the driver was loaded", "1 uncorrected, 40 corrected in its life",
        "2 rows replaced", "Needs a reset", "NVLink 3, PCIe replays 4", "4000 (1.0 GiB)",
        "Driver 580.95.05, library 13.580.95.05", "The driver has reported no fault.", "The kernel log cannot be read",
    ):  # fmt: skip
        assert words in page, words


def test_a_fault_from_its_report_to_the_held_card_to_requalified(door: Enter) -> None:
    see(95)
    erin = door("erin")
    page = text(erin.get("/gpus"))
    assert "Quarantined: no new work goes to the engine on this card." in page
    assert "1 card is held from work." in page
    assert "A memory error that was not contained" in page
    assert "told by NVML" in page

    refused = text(erin.browser.post(f"/gpus/cards/{CARD.uuid}/requalify", follow=True))
    assert "gpu_fault_stands" in refused
    assert telemetry.one(CARD.uuid).held is rules.Hold.QUARANTINED

    number = telemetry.events()[0].id
    assert "You have looked at this report." in text(
        erin.browser.post(f"/gpus/events/{number}/acknowledge", follow=True)
    )
    see()
    assert "The check found nothing." in text(erin.browser.post(f"/gpus/cards/{CARD.uuid}/requalify", follow=True))
    assert "held from work" not in text(erin.get("/gpus"))
    acts = [row.action for row in records(actor="erin") if row.action.startswith("gpu.")]
    assert acts == ["gpu.requalified", "gpu.event_acknowledged"]


def test_who_may_not_act_is_shown_the_state_and_no_button(door: Enter) -> None:
    see(95)
    page = text(door("bob").get("/gpus"))
    assert "Quarantined: no new work" in page
    for button in ("Check and requalify", "Acknowledge", "Propose another action"):
        assert button not in page
    assert door("bob").post(f"/gpus/cards/{CARD.uuid}/requalify").status_code == 403


def test_a_line_of_the_policy_is_proposed_and_its_change_shows_what_will_differ(door: Enter) -> None:
    alice = door("alice")
    assert "Cards that compute together may lose" in text(alice.get("/gpus"))
    response = alice.post("/gpus/policy", fault="nvlink", action="drain", reason="One card here.")
    (change,) = changes.changes()
    assert response["Location"] == f"/changes/{change.id}"
    page = text(door("bob").get(f"/changes/{change.id}"))
    for words in ("Set what is done about a GPU fault", "Kind of fault", "What will be done", "quarantine", "drain"):
        assert words in page
    door("bob").approve(change.id)
    door("carol").approve(change.id)
    assert f"change {change.id}" in text(alice.get("/gpus"))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"fault": "nvlink", "action": "quarantine", "reason": "x"}, "gpu_policy"),
        ({"fault": "nvlink", "action": "explode", "reason": "x"}, "Nothing was proposed"),
        ({"fault": "nvlink", "action": "drain", "reason": ""}, "Nothing was proposed"),
    ],
)
def test_an_odd_proposal_is_refused_in_words(door: Enter, fields: dict[str, str], code: str) -> None:
    page = text(door("alice").browser.post("/gpus/policy", fields, follow=True))
    assert code in page
    assert changes.changes() == ()


@pytest.mark.parametrize("window", ["now", "hour", "day", "month", "year", "odd"])
def test_the_past_is_drawn_for_each_window_with_the_same_as_numbers(door: Enter, window: str) -> None:
    now = timezone.now()
    for minutes in range(180, 0, -1):
        at = now - timedelta(minutes=minutes)
        acting.store(cards=[CARD], readings=[rules.Reading(uuid=CARD.uuid, at=at, temperature_c=40)], at=at)
    see()
    acting.roll_up(now=timezone.now())
    page = text(door("bob").get(f"/gpus/live?window={window}"))
    shown = window if window != "odd" else "now"
    assert f'hx-get="/gpus/live?window={shown}"' in page
    if shown == "now":
        assert "41 °C" in page
    elif shown in {"hour", "day"}:
        assert "<polyline" in page
        assert "40 °C (40 to 40)" in page


def test_an_empty_machine_shows_the_policy_all_the_same(door: Enter) -> None:
    page = text(door("bob").get("/gpus"))
    assert "No GPU has been seen on this machine" in page
    assert "What is done about a fault" in page
    assert "as delivered" in page
