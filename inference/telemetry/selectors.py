"""Reads of the GPUs' pulse, for pages and for admission."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from inference.telemetry import rules
from inference.telemetry.models import Gpu, Pulse, Sample


@dataclass(frozen=True)
class CardView:
    """A card with its newest reading and a short history, oldest first."""

    card: rules.Card
    first_seen: datetime
    last_seen: datetime
    present: bool
    latest: rules.Reading | None
    history: tuple[rules.Reading, ...]

    @property
    def memory_percent(self) -> int | None:
        """Share of the card's memory in use; None when either number is unknown."""
        if self.latest is None or self.latest.memory_used is None or not self.card.memory_total:
            return None
        return round(100 * self.latest.memory_used / self.card.memory_total)

    @property
    def power_w(self) -> int | None:
        """Watts, rounded."""
        if self.latest is None or self.latest.power_mw is None:
            return None
        return round(self.latest.power_mw / 1000)


@dataclass(frozen=True)
class Sampler:
    """Whether the sampler lives, and what it sees."""

    alive: bool
    at: datetime | None
    driver: str
    present: int
    expected: int
    reason: str


def cards(*, history: timedelta = timedelta(minutes=5), points: int = 60) -> tuple[CardView, ...]:
    """Every card ever seen, those present first; history is thinned to about the given number of points."""
    now = timezone.now()
    views = []
    for gpu in Gpu.objects.order_by("index", "uuid"):
        samples = list(Sample.objects.filter(gpu=gpu, at__gte=now - history).order_by("at"))
        thin = samples[:: max(1, len(samples) // points)]
        readings = tuple(_reading(gpu.uuid, sample) for sample in thin)
        views.append(
            CardView(
                card=card(gpu),
                first_seen=gpu.first_seen,
                last_seen=gpu.last_seen,
                present=now - gpu.last_seen < rules.SILENT_AFTER,
                latest=_reading(gpu.uuid, samples[-1]) if samples else None,
                history=readings,
            )
        )
    return tuple(sorted(views, key=lambda view: not view.present))


def known() -> tuple[rules.Card, ...]:
    """Every card ever seen."""
    return tuple(card(gpu) for gpu in Gpu.objects.order_by("index", "uuid"))


def sampler() -> Sampler:
    """The sampler's own pulse; a silent one says so in the reason."""
    pulse = Pulse.objects.first()
    if pulse is None:
        return Sampler(
            alive=False, at=None, driver="", present=0, expected=0, reason="the sampler has never run (sample_gpus)"
        )
    alive = timezone.now() - pulse.at < rules.SILENT_AFTER
    reason = pulse.reason if alive else "the sampler is silent; what is shown is old"
    return Sampler(
        alive=alive,
        at=pulse.at,
        driver=pulse.driver,
        present=pulse.present,
        expected=pulse.expected,
        reason=reason,
    )


def card(gpu: Gpu) -> rules.Card:
    """The row as the value rules and pages use."""
    return rules.Card(
        uuid=gpu.uuid,
        index=gpu.index,
        name=gpu.name,
        serial=gpu.serial,
        pci=gpu.pci,
        memory_total=gpu.memory_total,
    )


def _reading(uuid: str, sample: Sample) -> rules.Reading:
    return rules.Reading(
        uuid=uuid,
        at=sample.at,
        utilisation_percent=sample.utilisation_percent,
        memory_used=sample.memory_used,
        temperature_c=sample.temperature_c,
        power_mw=sample.power_mw,
        power_limit_mw=sample.power_limit_mw,
        clock_sm_mhz=sample.clock_sm_mhz,
        clock_memory_mhz=sample.clock_memory_mhz,
        ecc_corrected=sample.ecc_corrected,
        ecc_uncorrected=sample.ecc_uncorrected,
        throttle=sample.throttle,
        energy_mj=sample.energy_mj,
    )
