"""Reads of the GPUs' pulse, for pages and for admission."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from inference.telemetry import rules
from inference.telemetry.errors import NoSuchCardError
from inference.telemetry.models import Gpu, GpuHealth, Pulse, Sample


@dataclass(frozen=True)
class CardView:
    """A card with its newest reading and a short history, oldest first."""

    card: rules.Card
    first_seen: datetime
    last_seen: datetime
    present: bool
    latest: rules.Reading | None
    history: tuple[rules.Reading, ...]
    health: rules.Health | None = None
    held: rules.Hold = rules.Hold.NONE
    held_since: datetime | None = None
    held_reason: str = ""

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
    library: str = ""
    deaf: str = ""


def cards(*, history: timedelta = timedelta(minutes=5), points: int = 60) -> tuple[CardView, ...]:
    """Every card ever seen, those present first; history is thinned to about the given number of points."""
    now = timezone.now()
    gpus = list(Gpu.objects.select_related("health").order_by("index", "uuid"))
    samples: dict[int, list[Sample]] = {gpu.pk: [] for gpu in gpus}
    for sample in Sample.objects.filter(gpu__in=gpus, at__gte=now - history).order_by("at"):
        samples[sample.gpu_id].append(sample)
    views = [_view(gpu, samples[gpu.pk], now=now, points=points) for gpu in gpus]
    return tuple(sorted(views, key=lambda view: not view.present))


def one(uuid: str) -> CardView:
    """One card, as of this moment."""
    found = next((view for view in cards(history=rules.SILENT_AFTER) if view.card.uuid == uuid), None)
    if found is None:
        raise NoSuchCardError("no card of this identity was ever seen")
    return found


def _view(gpu: Gpu, samples: list[Sample], *, now: datetime, points: int) -> CardView:
    thin = samples[:: max(1, len(samples) // points)]
    return CardView(
        card=card(gpu),
        first_seen=gpu.first_seen,
        last_seen=gpu.last_seen,
        present=now - gpu.last_seen < rules.SILENT_AFTER,
        latest=_reading(gpu.uuid, samples[-1]) if samples else None,
        history=tuple(_reading(gpu.uuid, sample) for sample in thin),
        health=_health(gpu),
        held=rules.Hold(gpu.held),
        held_since=gpu.held_since,
        held_reason=gpu.held_reason,
    )


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
        library=pulse.library,
        deaf=pulse.deaf,
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


def _health(gpu: Gpu) -> rules.Health | None:
    try:
        row = gpu.health
    except GpuHealth.DoesNotExist:
        return None
    processes = None if row.processes is None else tuple(rules.Process(pid, memory) for pid, memory in row.processes)
    return rules.Health(
        uuid=gpu.uuid,
        at=row.at,
        ecc_corrected_total=row.ecc_corrected_total,
        ecc_uncorrected_total=row.ecc_uncorrected_total,
        retired_pages=row.retired_pages,
        retirement_pending=row.retirement_pending,
        remapped_rows=row.remapped_rows,
        remap_pending=row.remap_pending,
        remap_failed=row.remap_failed,
        nvlink_errors=row.nvlink_errors,
        pcie_replays=row.pcie_replays,
        mig=row.mig,
        processes=processes,
    )
