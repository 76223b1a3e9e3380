"""`manage.py sample_gpus` as its own process, over the simulated library: flow D on real parts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pynvml
import pytest
from django.db import connection

from appliance.alerts import selectors as alerts
from appliance.audit.actions import Action
from inference.telemetry import selectors
from tests.simulators.nvml import library
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]
UUID = "GPU-5eed0000-0000-4000-8000-00000000000{}"

pytestmark = pytest.mark.django_db(transaction=True)

# The command reads the number of expected cards from the site; here each test says it.
RUN = """
import sys, django
from pathlib import Path
django.setup()
from inference.management.commands import sample_gpus
sample_gpus.REOPEN_AFTER_S = 0.2
sample_gpus.HEALTH_EVERY_S = 0.2
sample_gpus.HUNG_AFTER_S = 1.0
sample_gpus.GIVE_UP_AFTER_S = float(sys.argv[3])
from django.conf import settings
import dataclasses
settings.SITE = dataclasses.replace(settings.SITE, expected_gpus=int(sys.argv[1]))
from django.core.management import call_command
call_command("sample_gpus", interval=0.05, kernel_log=Path(sys.argv[2]))
"""


@contextmanager
def sampling(
    environment: dict[str, str],
    *,
    expected: int,
    kernel: Path = Path("/dev/null"),
    give_up_s: float = 60,
    ends: int = 0,
) -> Iterator[subprocess.Popen[bytes]]:
    """The sampler runs inside the block and must end when asked to, well unless another end is promised."""
    environment = {**environment, "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"]}
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(expected), str(kernel), str(give_up_s)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == ends, process.stderr.read().decode() if process.stderr else ""
        finally:
            process.kill()


def standing() -> set[str]:
    return {alert.key for alert in alerts.standing()}


def audited() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT action FROM audit_record WHERE action LIKE 'alert.%%' ORDER BY seq")
        return [row[0] for row in cursor.fetchall()]


def test_a_card_that_falls_off_the_bus_raises_an_alert_and_its_return_closes_it(
    simulated: library.SimulatedNvml,
) -> None:
    simulated.say("count 2")
    with sampling(simulated.environment(), expected=2):
        until(lambda: len([view for view in selectors.cards() if view.present]) == 2, 20, "both cards are seen")
        assert standing() == set()

        simulated.say("count 2", f"1 all error {pynvml.NVML_ERROR_GPU_IS_LOST}")
        until(lambda: standing() == {"gpu.missing"}, 10, "the missing card is an alert")
        (alert,) = alerts.standing()
        assert UUID.format(1) in alert.detail
        assert alert.title == "1 of 2 expected GPUs present"

        simulated.say("count 2")
        until(lambda: standing() == set(), 10, "the alert closes when the card is back")
    assert audited() == [Action.ALERT_OPENED, Action.ALERT_CLOSED]


def test_a_card_that_was_not_there_at_the_start_is_found_when_it_appears(simulated: library.SimulatedNvml) -> None:
    simulated.say("count 2", f"1 handle error {pynvml.NVML_ERROR_GPU_IS_LOST}")
    with sampling(simulated.environment(), expected=2):
        until(lambda: standing() == {"gpu.missing"}, 20, "the missing card is an alert")

        simulated.say("count 2")
        until(lambda: standing() == set(), 10, "NVML is started again and lists both cards")
        assert len(selectors.known()) == 2


def test_heat_and_memory_errors_become_alerts_while_the_sampler_runs(simulated: library.SimulatedNvml) -> None:
    with sampling(simulated.environment(), expected=1):
        until(selectors.cards, 20, "the card is seen")
        simulated.say("0 temperature 93", "0 ecc_uncorrected 1")
        hot, ecc = f"gpu.temperature.{UUID.format(0)}", f"gpu.ecc.{UUID.format(0)}"
        until(lambda: standing() == {hot, ecc}, 10, "both faults are alerts")

        simulated.say("0 temperature 50", "0 ecc_uncorrected 1")
        until(lambda: standing() == {ecc}, 10, "the heat is over, the memory error stays")


def test_without_a_driver_it_says_why_and_keeps_running(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()
    with sampling(library.SimulatedNvml(tmp_path).environment(), expected=0) as process:
        until(lambda: selectors.sampler().alive, 20, "the sampler's pulse is seen")
        pulse = selectors.sampler()
        assert (pulse.present, pulse.expected) == (0, 0)
        assert "driver is not installed" in pulse.reason
        assert standing() == set()
        assert process.poll() is None


def test_without_a_driver_expected_cards_are_an_alert(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()
    with sampling(library.SimulatedNvml(tmp_path).environment(), expected=1):
        until(lambda: standing() == {"gpu.unreadable"}, 20, "unreadable cards are an alert")


def test_a_driver_that_appears_later_is_found(simulated: library.SimulatedNvml) -> None:
    simulated.say(f"init {pynvml.NVML_ERROR_DRIVER_NOT_LOADED}")
    with sampling(simulated.environment(), expected=1):
        until(lambda: standing() == {"gpu.unreadable"}, 20, "a driver that is not loaded is an alert")
        simulated.say()
        until(lambda: standing() == set() and selectors.sampler().present == 1, 10, "the card is read")


def test_it_goes_on_when_postgresql_dropped_its_connection(simulated: library.SimulatedNvml) -> None:
    with sampling(simulated.environment(), expected=1) as process:
        until(lambda: selectors.sampler().alive, 20, "the sampler's pulse is seen")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                "AND usename = current_user"
            )
            assert cursor.fetchall()
        before = selectors.sampler().at
        until(lambda: selectors.sampler().at != before, 10, "the pulse goes on over a new connection")
        assert process.poll() is None
