"""The scrape address, as a process of its own, read by Prometheus's own parser: numbers, and no name that somebody chose."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from appliance.alerts import services as alerting
from appliance.alerts.rules import Severity
from inference.clients import services as clients
from inference.telemetry import rules
from inference.telemetry import services as telemetry
from tests import private_site
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
CARD = rules.Card(uuid="GPU-1", index=0, name="H200", serial="1", pci="00000000:3B:00.0", memory_total=200)


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """`manage.py serve_metrics` over a site file that names a scrape address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    file = folder / "site.toml"
    plain = private_site.LAYOUT.site_file.read_text(encoding="utf-8")
    file.write_text(plain + f'\n[metrics]\nlisten = "127.0.0.1:{port}"\n', encoding="utf-8")
    environment = {**os.environ, "ISOWARD_SITE": str(file)}
    command = [sys.executable, "manage.py", "serve_metrics"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: _listens(port), 20, "it listens")
            yield port
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, str]:
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    wire.request(method, path)
    answer = wire.getresponse()
    found = answer.status, answer.read().decode()
    wire.close()
    return found


def samples(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_a_scrape_has_the_numbers_and_nothing_for_what_is_unknown(tmp_path: Path) -> None:
    now = timezone.now()
    reading = rules.Reading(uuid=CARD.uuid, at=now, temperature_c=41, power_mw=118_500)
    telemetry.store(cards=[CARD], readings=[reading], at=now)
    alerting.open_(actor="sampler", key="gpu.hot", severity=Severity.CRITICAL, title="Mrs Quimby's card is hot")
    clients.create_client(
        actor="erin", name="quimby-ward", title="Quimby", owner="IT", tasks=["progress_note"], purposes=["TREAT"],
        lane="batch", phi=False,
    )  # fmt: skip
    clients.issue_key(actor="erin", client="quimby-ward", life=timedelta(days=1))

    with serving(tmp_path) as port:
        status, text = ask(port)
        assert (ask(port, "/")[0], ask(port, "/metrics", "POST")[0]) == (404, 501)

    assert status == 200
    found = samples(text)
    assert found["isoward_gpu_temperature_celsius"] == {("0", "GPU-1"): 41}
    assert found["isoward_gpu_power_watts"] == {("0", "GPU-1"): 118.5}
    assert "isoward_gpu_utilisation_percent" not in found
    assert found["isoward_alerts_open"] == {("info",): 0, ("warning",): 0, ("critical",): 1}
    assert found["isoward_sampler_alive"] == {(): 0}
    assert found["isoward_capacity"] == {("full",): 1, ("reduced",): 0, ("none",): 0}
    assert "quimby" not in text.lower()
    labels = {name for family in text_string_to_metric_families(text) for s in family.samples for name in s.labels}
    assert labels == {"gpu", "uuid", "capacity", "severity"}


def test_without_an_address_in_the_site_file_nothing_listens() -> None:
    with pytest.raises(CommandError, match=r"has no \[metrics\]"):
        call_command("serve_metrics")
