"""A box with something on every page: what serves, what waits, what failed, what was refused. Made through the services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from appliance.alerts import services as alerting
from appliance.alerts.rules import Severity
from appliance.emergency import services as emergency
from appliance.reviews import services as reviews
from inference.clients import services as clients
from inference.policy.ask import Ask
from inference.policy.catalog import TASKS, Lane
from inference.policy.rules import Rights
from inference.queue import services as queue
from inference.queue.rules import BadLine, Line
from inference.releases import selectors as releases
from inference.releases import services as releasing
from inference.telemetry import rules as readings
from inference.telemetry import services as telemetry
from tests.appliance import cast
from tests.inference.releases.stage import Stage

RIGHTS = Rights(
    client="ward-7", key_id="iwk_00000000", tasks=frozenset({"progress_note"}), purposes=frozenset({"TREAT"}),
    lane=Lane.BATCH, phi=True,
)  # fmt: skip
ASK = Ask(model="default", task="progress_note", purpose="TREAT", record={"plan": "rest"})


@dataclass(frozen=True)
class Furnished:
    """What a page's address may name."""

    served: str
    proposed: str
    change: int
    import_: int
    key: str
    alert: int
    job: str
    batch: str
    review: int
    opening: int


def furnish(stage: Stage, people: Mapping[str, cast.Member]) -> Furnished:
    """Fill the box; `people` are those of the cast who are there already."""
    served = stage.receive(1)
    stage.activate_with(dict(people), served)
    releasing.mark_serving(actor="test", deployment_id=releases.live_deployments()[0].id, gate={"ok": True})
    proposed = stage.receive(2)
    change = releasing.propose_activation(actor="alice", digest=proposed, reason="The next version, with fewer faults.")
    import_ = _refused_import(stage)
    key = _clients()
    job, batch = _work()
    _card()
    alert = alerting.open_(
        actor="test", key="gpu.missing", severity=Severity.CRITICAL, title="1 of 2 GPUs present",
        detail="The card at 0000:81:00.0 does not answer.",
    )  # fmt: skip
    alerting.open_(actor="test", key="audit.late", severity=Severity.WARNING, title="The seal is late")
    alerting.close(actor="test", key="audit.late", reason="sealed again")
    cast.forget_used_codes()
    bob = people["bob"]
    opening = emergency.ask(actor="bob", reason="Nobody answers.", password=bob.password, code=bob.code())
    review = reviews.open_(actor="grace")
    return Furnished(served, proposed, change, import_, key, alert.id, job, batch, review, opening)


def _refused_import(stage: Stage) -> int:
    medium = stage.medium(3)
    weights = next(medium.rglob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return stage.run_import(3)


def _clients() -> str:
    for name, title in (("ward-7", "Ward documentation"), ("radiology", "Radiology reporting")):
        clients.create_client(
            actor="erin", name=name, title=title, owner="Clinical informatics", tasks=["progress_note"],
            purposes=["TREAT"], lane="interactive", phi=True,
        )  # fmt: skip
    clients.create_client(
        actor="erin", name="playground", title="Playground", owner="IT", tasks=list(TASKS), purposes=["TREAT"],
        lane="interactive", phi=False,
    )  # fmt: skip
    clients.issue_key(actor="erin", client="ward-7", life=timedelta(days=30))
    return clients.issue_key(actor="erin", client="ward-7").plaintext[:12]


def _work() -> tuple[str, str]:
    source = queue.begin_file(rights=RIGHTS, name="notes.jsonl")
    queue.add_piece(ref=source, number=0, content=b"{}\n")
    queue.finish_file(actor="ward-7", rights=RIGHTS, ref=source, lines=3, request_id="r")
    batch = queue.accept_batch(actor="ward-7", rights=RIGHTS, input_file=source).ref
    given: list[Line | BadLine] = [
        Line(1, "a", ASK),
        Line(2, "b", ASK),
        BadLine(3, "invalid_json", "no", custom_id="c"),
    ]
    queue.expand_batch(actor="reader", ref=batch, read=lambda *_: given)
    jobs = [queue.submit(actor="ward-7", rights=RIGHTS, ask=ASK, request_id=f"r{n}").ref for n in range(4)]
    queue.cancel(actor="ward-7", rights=RIGHTS, ref=jobs[0])
    queue.claim(actor="worker-1", ref=jobs[1])
    return jobs[2], batch


def _card() -> None:
    now = timezone.now()
    uuid = "GPU-11111111-2222-3333-4444-555555555555"
    card = readings.Card(
        uuid=uuid, index=0, name="NVIDIA H100 80GB HBM3", serial="1650322046789", pci="00000000:81:00.0",
        memory_total=85_520_809_984,
    )  # fmt: skip
    for seconds in (20, 10, 0):
        reading = readings.Reading(
            uuid=uuid, at=now - timedelta(seconds=seconds), temperature_c=58 + seconds // 10, power_mw=311_000,
            power_limit_mw=700_000, utilisation_percent=64, memory_used=61_000_000_000, clock_sm_mhz=1755, throttle=0,
            ecc_corrected=2, ecc_uncorrected=0,
        )  # fmt: skip
        telemetry.store(cards=[card], readings=[reading], at=now)
    telemetry.beat(at=now, started_at=now - timedelta(hours=3), driver="570.86.15", present=1, expected=2, reason="")
