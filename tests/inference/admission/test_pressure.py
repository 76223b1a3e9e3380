"""What the cards can bear, from what the operator is told."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from appliance.alerts import services as alerts
from appliance.alerts.rules import Severity
from inference.admission import pressure
from inference.admission.rules import Pressure
from inference.admission.standing import Facts
from inference.clients import selectors as clients
from inference.queue.tasks import Bench
from inference.telemetry import services as telemetry

WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL


@pytest.mark.parametrize(
    ("standing", "alive", "found"),
    [
        ({}, True, Pressure.CLEAR),
        ({"gpu.temperature.GPU-1": WARNING}, True, Pressure.WARM),
        ({"gpu.throttle.GPU-1": WARNING}, True, Pressure.WARM),
        ({"gpu.missing": CRITICAL}, True, Pressure.WARM),
        ({"gpu.temperature.GPU-1": WARNING, "gpu.temperature.GPU-2": CRITICAL}, True, Pressure.HOT),
        ({"gpu.ecc.GPU-1": CRITICAL}, True, Pressure.CLEAR),
        ({"gpu.unreadable": CRITICAL}, True, Pressure.BLIND),
        ({}, False, Pressure.BLIND),
        ({"gpu.temperature.GPU-1": CRITICAL}, False, Pressure.HOT),
    ],
)
def test_the_same_findings_that_ring_the_operator_hold_back_work(
    standing: dict[str, Severity], alive: bool, found: Pressure
) -> None:
    assert pressure.judge(expected=2, alive=alive, standing=standing) is found
    assert pressure.judge(expected=0, alive=alive, standing=standing) is Pressure.CLEAR


def beat(age: timedelta) -> None:
    at = timezone.now() - age
    telemetry.beat(at=at, started_at=at, driver="550", present=1, expected=1, reason="")


@pytest.mark.django_db
def test_it_is_read_from_the_standing_alerts_and_the_pulse() -> None:
    assert pressure.read(expected=0) is Pressure.CLEAR
    assert pressure.read(expected=1) is Pressure.BLIND
    beat(timedelta(0))
    assert pressure.read(expected=1) is Pressure.CLEAR
    alerts.open_(actor="sampler", key="gpu.temperature.GPU-1", severity=CRITICAL, title="GPU is hot", detail="91 °C")
    assert pressure.read(expected=1) is Pressure.HOT
    alerts.close(actor="sampler", key="gpu.temperature.GPU-1", reason="no longer seen")
    assert pressure.read(expected=1) is Pressure.CLEAR
    beat(timedelta(seconds=11))
    assert pressure.read(expected=1) is Pressure.BLIND


@pytest.mark.django_db
def test_a_queue_worker_feels_what_the_api_feels() -> None:
    bench = Bench._make("here:1")
    try:
        bench.house.standing._facts = Facts(clients=clients.snapshot(), serving=None, pressure=Pressure.HOT)
        assert bench.house.lanes.gauges().pressure is Pressure.HOT
    finally:
        bench.runner.close()
        bench.rows.close()


def test_a_card_held_from_work_stops_the_engine_on_it_and_nothing_where_no_gpu_is_expected() -> None:
    hot = {"gpu.temperature.GPU-1": CRITICAL}
    assert pressure.judge(expected=1, alive=True, standing=hot, blocked=True) is Pressure.HELD
    assert pressure.judge(expected=1, alive=True, standing={}, blocked=False) is Pressure.CLEAR
    assert pressure.judge(expected=0, alive=True, standing={}, blocked=True) is Pressure.CLEAR
