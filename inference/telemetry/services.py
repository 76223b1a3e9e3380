"""Keep what the sampler saw, and make the alerts match what is wrong.

Reading the cards is nvml.py's; what a reading means is rules.py's. Alerts are the audited acts; samples are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from django.db import transaction

from appliance.alerts import selectors as standing_alerts
from appliance.alerts import services as alerts
from appliance.audit.services import unaudited
from inference.telemetry import rules
from inference.telemetry.models import Gpu, Pulse, Sample

RAW_SAMPLES_LIVE = timedelta(days=1)


@unaudited("a measurement every second is nobody's act; what it leads to is an alert, and that is recorded")
@transaction.atomic
def store(*, cards: Sequence[rules.Card], readings: Sequence[rules.Reading], at: datetime) -> None:
    """Bring the inventory up to date and add one sample per card that answered."""
    answered = {reading.uuid for reading in readings}
    rows = [Gpu(**asdict(card), first_seen=at, last_seen=at) for card in cards if card.uuid in answered]
    Gpu.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["uuid"],
        update_fields=["index", "name", "serial", "pci", "memory_total", "last_seen"],
    )
    numbers = dict(Gpu.objects.filter(uuid__in=answered).values_list("uuid", "pk"))
    samples = []
    for reading in readings:
        values = asdict(reading)
        samples.append(Sample(gpu_id=numbers[values.pop("uuid")], **values))
    Sample.objects.bulk_create(samples)


@unaudited("the sampler's own pulse; its silence is what the console shows")
def beat(*, at: datetime, started_at: datetime, driver: str, present: int, expected: int, reason: str) -> None:
    """Say that the sampler lives, and what it sees."""
    Pulse.objects.update_or_create(
        id=1,
        defaults={
            "at": at,
            "started_at": started_at,
            "driver": driver,
            "present": present,
            "expected": expected,
            "reason": reason[:300],
        },
    )


@unaudited("raw samples past their day; the alerts they led to stay")
def prune(*, now: datetime) -> int:
    """Delete raw samples older than a day. Returns how many."""
    deleted, _ = Sample.objects.filter(at__lt=now - RAW_SAMPLES_LIVE).delete()
    return deleted


@unaudited("alerts.open_ and alerts.close record each one, as this actor")
@transaction.atomic
def settle(*, actor: str, findings: Sequence[rules.Finding]) -> None:
    """Make the open GPU alerts exactly these findings. alerts.open_ and alerts.close write the audit rows."""
    standing = {alert.key: alert for alert in standing_alerts.standing() if alert.key.startswith(rules.PREFIX)}
    for finding in findings:
        alert = standing.pop(finding.key, None)
        if alert and alert.detail == finding.detail and alert.severity.rank >= finding.severity.rank:
            continue
        alerts.open_(
            actor=actor, key=finding.key, severity=finding.severity, title=finding.title, detail=finding.detail
        )
    for key in standing:
        alerts.close(actor=actor, key=key, reason="no longer seen")
