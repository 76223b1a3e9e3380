"""What the sampler saw is kept, told as alerts, and pruned after a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from appliance.alerts import selectors as alerts
from appliance.alerts import services as writes
from appliance.alerts.rules import Severity
from inference.telemetry import rules, selectors, services
from inference.telemetry.models import Sample

pytestmark = pytest.mark.django_db

CARD = rules.Card(uuid="GPU-1", index=0, name="H200", serial="1", pci="00:10", memory_total=200)
HOT = rules.Finding("gpu.temperature.GPU-1", Severity.CRITICAL, "GPU is hot", "90 °C or more on GPU-1")


def store(at: datetime, **values: int | None) -> None:
    services.store(cards=[CARD], readings=[rules.Reading(uuid=CARD.uuid, at=at, **values)], at=at)


def beat(at: datetime, reason: str = "") -> None:
    services.beat(at=at, started_at=at, driver="580", present=1, expected=1, reason=reason)


def test_a_card_is_shown_with_its_newest_reading_and_its_history() -> None:
    now = timezone.now()
    store(now - timedelta(seconds=2), temperature_c=40, memory_used=100, power_mw=118_400)
    store(now - timedelta(seconds=1), temperature_c=41, memory_used=50, power_mw=None)

    (view,) = selectors.cards()

    assert view.present
    assert [reading.temperature_c for reading in view.history] == [40, 41]
    assert (view.memory_percent, view.power_w) == (25, None)


def test_a_card_that_went_away_is_still_known_and_no_longer_present() -> None:
    store(timezone.now() - timedelta(minutes=10), temperature_c=40)

    (view,) = selectors.cards()

    assert not view.present
    assert view.latest is None
    assert selectors.known() == (CARD,)


def test_samples_older_than_a_day_are_pruned_and_younger_ones_stay() -> None:
    now = timezone.now()
    store(now - timedelta(days=1, seconds=1))
    store(now - timedelta(hours=23))

    assert services.prune(now=now) == 1
    assert Sample.objects.count() == 1


def test_a_sampler_that_never_ran_one_that_lives_and_a_silent_one_are_told_apart() -> None:
    assert "never run" in selectors.sampler().reason
    beat(timezone.now(), reason="the NVIDIA driver is not installed")
    assert selectors.sampler().alive
    assert selectors.sampler().reason == "the NVIDIA driver is not installed"
    beat(timezone.now() - timedelta(minutes=1))
    assert not selectors.sampler().alive
    assert "silent" in selectors.sampler().reason


def test_the_open_gpu_alerts_are_exactly_the_findings() -> None:
    services.settle(actor="sampler", findings=[HOT])
    services.settle(actor="sampler", findings=[HOT])
    assert [alert.key for alert in alerts.standing()] == [HOT.key]

    services.settle(actor="sampler", findings=[])
    assert alerts.standing() == ()
    assert len(alerts.recent()) == 1


def test_alerts_of_other_watchers_are_left_alone() -> None:
    writes.open_(actor="canary", key="egress.open", severity=Severity.CRITICAL, title="A packet left")

    services.settle(actor="sampler", findings=[])

    assert [alert.key for alert in alerts.standing()] == ["egress.open"]


def test_times_are_kept_as_they_were_read() -> None:
    at = timezone.now().replace(microsecond=123456).astimezone(UTC)
    store(at)

    assert Sample.objects.get().at == at
