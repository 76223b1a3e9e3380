"""A card held from work, through the real API: said in the status, on every answer, and nothing new goes in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from inference.telemetry import rules, selectors
from inference.telemetry import services as telemetry
from inference.telemetry.models import XidEvent
from tests import private_site
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn
from tests.simulators.lan import Lan
from tests.waiting import until

CARD = rules.Card(uuid="GPU-1", index=0, name="H200", serial="1", pci="00000000:3B:00.0", memory_total=200)


@pytest.fixture
def gpu_lan(db: None, tmp_path: Path, engine: EngineStandIn) -> Iterator[Lan]:
    """The same box with one card expected, behind an API process of its own."""
    file = tmp_path / "site.toml"
    plain = private_site.LAYOUT.site_file.read_text(encoding="utf-8")
    file.write_text(plain.replace("expected = 0", "expected = 1"), encoding="utf-8")
    log = tmp_path / "api.log"
    with lans.api_process(log, site=file) as port:
        found = Lan(port, log, engine, client="icu", key=lans.new_key("icu", lane="stat"))
        see()
        until(lambda: found.ask("GET", "/v1/models/default").status == 200, 10, "the API knows the key and the release")
        yield found


def see(*xids: int) -> None:
    """The sampler's turn: the card is there and well, and these faults were reported."""
    now = timezone.now()
    reading = rules.Reading(uuid=CARD.uuid, at=now, temperature_c=40, ecc_uncorrected=0)
    telemetry.store(cards=[CARD], readings=[reading], at=now)
    telemetry.keep_health(health=[rules.Health(uuid=CARD.uuid, at=now)])
    telemetry.beat(at=now, started_at=now, driver="580", present=1, expected=1, reason="")
    reports = [rules.Report(xid, "0000:3b:00", now, rules.Source.DRIVER) for xid in xids]
    telemetry.hear(reports=reports)
    faults = rules.faults_of((), selectors.open_events())
    telemetry.act(actor="sampler", faults=faults, policy=selectors.policy())


def test_a_quarantined_card_is_said_everywhere_and_a_requalified_one_works_again(gpu_lan: Lan) -> None:
    # Its first reading may be older than the card's: until the next one the card is not known to be well.
    until(lambda: gpu_lan.ask("GET", "/v1/status", key="").json["capacity"] == "full", 10, "it is well")
    well = gpu_lan.ask("GET", "/v1/status", key="")
    assert (well.status, well.headers.get("x-isoward-capacity")) == (200, None)

    see(95)
    until(lambda: gpu_lan.ask("GET", "/v1/status", key="").status == 503, 10, "the status says that nothing goes in")
    status = gpu_lan.ask("GET", "/v1/status", key="")
    assert (status.json["capacity"], status.json["reasons"]) == ("none", ["gpu_held"])
    refused = gpu_lan.chat()
    assert (refused.status, refused.json["error"]["code"]) == (503, "gpu_pressure")
    assert refused.headers["x-isoward-capacity"] == "none"

    telemetry.acknowledge_event(actor="erin", event_id=XidEvent.objects.get().pk)
    see()
    telemetry.requalify(actor="erin", uuid=CARD.uuid)
    until(lambda: gpu_lan.chat().status == 200, 10, "the card works again")
