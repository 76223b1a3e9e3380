"""The fault policy: changed by two people, refused when it is no longer what they saw; requalifying; the silent sampler."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from appliance.alerts import selectors as alerts
from appliance.changes import selectors as ledger
from appliance.changes import services as changes
from inference.telemetry import errors, rules, selectors, services
from inference.telemetry.models import Gpu
from provisioning.site_config import Site
from tests.appliance import cast
from tests.console.door import records

pytestmark = pytest.mark.django_db

CARD = rules.Card(uuid="GPU-1", index=0, name="H200", serial="1", pci="00000000:3B:00.0", memory_total=200)
NVLINK = rules.FaultClass.NVLINK


def see(*xids: int) -> None:
    now = timezone.now()
    reading = rules.Reading(uuid=CARD.uuid, at=now, ecc_uncorrected=0)
    services.store(cards=[CARD], readings=[reading], at=now)
    services.keep_health(health=[rules.Health(uuid=CARD.uuid, at=now, processes=(rules.Process(7, None),))])
    services.hear(reports=[rules.Report(xid, "0000:3b:00", now, rules.Source.DRIVER) for xid in xids])
    events = selectors.open_events()
    services.settle(actor="sampler", findings=rules.event_findings(events))
    services.act(actor="sampler", faults=rules.faults_of((), events), policy=selectors.policy())


def approve(change_id: int) -> None:
    for name in ("bob", "carol"):
        member = cast.member(name)
        changes.approve(actor=name, change_id=change_id, password=member.password, code=member.code())


def propose(action: rules.Action = rules.Action.DRAIN) -> int:
    return services.propose_policy(actor="alice", fault="nvlink", action=action, reason="One card here, no peer.")


def test_two_people_change_a_line_of_the_policy_and_the_next_fault_follows_it() -> None:
    assert selectors.policy()[NVLINK].action is rules.Action.QUARANTINE
    change_id = propose()
    assert selectors.policy()[NVLINK].action is rules.Action.QUARANTINE
    approve(change_id)

    line = next(item for item in selectors.policy_lines() if item.fault is NVLINK)
    assert (line.line.action, line.change_id) == (rules.Action.DRAIN, change_id)
    see(74)
    assert selectors.one(CARD.uuid).held is rules.Hold.DRAINED
    assert [row.target for row in records(action="gpu.policy_set")] == ["gpu-policy:nvlink"]


def test_a_change_over_a_line_that_has_changed_since_is_refused() -> None:
    first, second = propose(), propose(rules.Action.IGNORE)
    approve(first)
    cast.forget_used_codes()
    for name in ("bob", "carol"):
        member = cast.Member(name, f"{name}-has-a-long-password")
        changes.approve(actor=name, change_id=second, password=member.password, code=member.code())

    row = ledger.change(second)
    assert row is not None
    assert row.state == "failed"
    assert "no longer quarantine" in row.message
    assert selectors.policy()[NVLINK].action is rules.Action.DRAIN


@pytest.mark.parametrize(("fault", "action"), [("no_such", "drain"), ("nvlink", "explode"), ("nvlink", "quarantine")])
def test_what_is_no_line_or_no_change_is_not_proposed(fault: str, action: str) -> None:
    with pytest.raises(errors.PolicyError):
        services.propose_policy(actor="alice", fault=fault, action=action, reason="x")


def test_a_quarantined_card_is_requalified_only_when_the_check_finds_nothing() -> None:
    see(95)
    with pytest.raises(errors.NotWellError, match="still stands") as refused:
        services.requalify(actor="erin", uuid=CARD.uuid)
    assert refused.value.code == "gpu_fault_stands"
    assert selectors.capacity().blocked

    services.acknowledge_event(actor="erin", event_id=selectors.events()[0].id)
    see()
    services.requalify(actor="erin", uuid=CARD.uuid)
    assert selectors.one(CARD.uuid).held is rules.Hold.NONE
    assert not selectors.capacity().blocked
    with pytest.raises(errors.NoSuchCardError):
        services.requalify(actor="erin", uuid=CARD.uuid)


def test_a_drained_card_is_let_go_with_its_fault_and_by_nobody_else() -> None:
    see(9999)
    assert selectors.one(CARD.uuid).held is rules.Hold.DRAINED
    with pytest.raises(errors.NoSuchCardError):
        services.requalify(actor="erin", uuid=CARD.uuid)
    services.acknowledge_event(actor="erin", event_id=selectors.events()[0].id)
    see()
    assert selectors.one(CARD.uuid).held is rules.Hold.NONE
    assert [row.action for row in records() if row.action.startswith("gpu.")] == [
        "gpu.released",
        "gpu.event_acknowledged",
        "gpu.drained",
    ]


def test_looking_at_a_fault_twice_is_one_record_and_at_none_is_refused() -> None:
    see(13)
    number = selectors.events()[0].id
    services.acknowledge_event(actor="erin", event_id=number)
    services.acknowledge_event(actor="alice", event_id=number)
    assert selectors.events()[0].acknowledged_by == "erin"
    assert len(records(action="gpu.event_acknowledged")) == 1
    with pytest.raises(errors.NoSuchEventError):
        services.acknowledge_event(actor="erin", event_id=number + 1)


def test_the_processes_of_a_card_are_kept_as_numbers() -> None:
    see()
    health = selectors.one(CARD.uuid).health
    assert health is not None
    assert health.processes == (rules.Process(7, None),)


def test_a_silent_sampler_rings_where_cards_are_expected_and_not_elsewhere(site: Site, settings: Settings) -> None:
    services.watch_sampler(actor="sampler-watch")
    assert alerts.standing() == ()
    settings.SITE = replace(site, expected_gpus=1)
    services.watch_sampler(actor="sampler-watch")
    assert [alert.key for alert in alerts.standing()] == [rules.SILENT]
    now = timezone.now()
    services.beat(at=now, started_at=now, driver="580", present=1, expected=1, reason="")
    services.watch_sampler(actor="sampler-watch")
    assert alerts.standing() == ()
    services.beat(at=now - timedelta(minutes=1), started_at=now, driver="580", present=1, expected=1, reason="")
    services.watch_sampler(actor="sampler-watch")
    assert [alert.key for alert in alerts.standing()] == [rules.SILENT]


def test_a_held_card_that_was_exchanged_stops_no_work_and_one_that_fell_off_does() -> None:
    see(95)
    old = timezone.now() - timedelta(minutes=5)
    Gpu.objects.update(last_seen=old)
    now = timezone.now()
    services.beat(at=now, started_at=now, driver="580", present=0, expected=1, reason="")
    assert selectors.capacity().blocked
    new = rules.Card(uuid="GPU-2", index=0, name="H200", serial="2", pci="00000000:3B:00.0", memory_total=200)
    services.store(cards=[new], readings=[rules.Reading(uuid="GPU-2", at=now)], at=now)
    services.beat(at=now, started_at=now, driver="580", present=1, expected=1, reason="")
    assert not selectors.capacity().blocked
    assert selectors.one("GPU-1").held is rules.Hold.QUARANTINED, "put in again, it is still held"
