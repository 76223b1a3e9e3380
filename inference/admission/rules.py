"""How much at a time, whose turn it is, and when to come back. Pure: counts in, verdict out.

- Two things are bounded, places and tokens; a request holds one place and, in tokens, its prompt and its answer to come.
- stat may use everything; interactive and batch leave an eighth free for it.
- batch never holds more than half, so that a long queue of jobs leaves room for people.
- one client never holds more than three quarters, whatever its lane: alone it fills the engine, and others still get in.
- GPUs under pressure cost batch its places first, then people; stat keeps its own.
- An engine on a card that is held from work gets nothing new, stat included: what it answers may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

import msgspec

from inference.policy.catalog import Lane

# How long a request may stand in line: short enough that a person still waits, and for batch longer than ageing takes.
WAIT_S = {Lane.STAT: 30.0, Lane.INTERACTIVE: 10.0, Lane.BATCH: 30.0}
# A batch request that has waited this much longer than an interactive one goes before it.
AGES_AFTER_S = 10.0
_LONGEST_RETRY_S = 60
# Cards cool in minutes, not in requests: no throughput says when.
PRESSURE_RETRY_S = 60


class Pressure(StrEnum):
    """What the cards can bear, as far as is known."""

    CLEAR = "clear"
    BLIND = "blind"
    WARM = "warm"
    HOT = "hot"
    HELD = "held"


class Capacity(StrEnum):
    """The same for who asks: whether all of the box answers, less of it, or nothing new."""

    FULL = "full"
    REDUCED = "reduced"
    NONE = "none"

    @classmethod
    def under(cls, pressure: Pressure) -> Capacity:
        if pressure is Pressure.CLEAR:
            return cls.FULL
        return cls.NONE if pressure is Pressure.HELD else cls.REDUCED


class Use(msgspec.Struct, frozen=True):
    """Places and tokens: what is held, or what may be. A struct: each request makes a dozen of them."""

    slots: int = 0
    tokens: int = 0

    def __add__(self, other: Use) -> Use:
        return Use(self.slots + other.slots, self.tokens + other.tokens)

    def __sub__(self, other: Use) -> Use:
        return Use(self.slots - other.slots, self.tokens - other.tokens)

    def within(self, bound: Use) -> bool:
        return self.slots <= bound.slots and self.tokens <= bound.tokens

    def part(self, numerator: int, denominator: int) -> Use:
        """That share of it, and at least one place."""
        return Use(max(1, self.slots * numerator // denominator), max(1, self.tokens * numerator // denominator))


@dataclass(frozen=True)
class Limits:
    """How much this process may have in the engine at once."""

    whole: Use
    people_and_jobs: Use
    jobs: Use
    client: Use

    @classmethod
    def share(cls, *, engine_slots: int, context: int, processes: int) -> Limits:
        """One API process's share: a little more than the engine runs at once, so that it never waits for us.

        The tokens are those of a full engine of longest requests: they never leave it idle, and long requests stand in
        line here and not in the engine.
        """
        slots = max(4, (engine_slots * 3 // 2) // max(1, processes))
        whole = Use(slots, max(4, engine_slots // max(1, processes)) * context)
        return cls(
            whole=whole, people_and_jobs=whole - whole.part(1, 8), jobs=whole.part(1, 2), client=whole.part(3, 4)
        )

    @classmethod
    def of_queue(cls, *, engine_slots: int, context: int, processes: int) -> Limits:
        """A queue worker's share: jobs alone, enough to keep the engine full; people go before them in the engine."""
        slots = -(-engine_slots * 9 // 8 // max(1, processes))
        whole = Use(slots, slots * context)
        return cls(whole=whole, people_and_jobs=whole, jobs=whole, client=whole)

    def widest(self, lane: Lane) -> int:
        """The most tokens that one request of that lane may reserve and still get in when nobody else is."""
        bounds = [self.whole, self.client]
        bounds += [] if lane is Lane.STAT else [self.people_and_jobs]
        bounds += [self.jobs] if lane is Lane.BATCH else []
        return min(bound.tokens for bound in bounds)

    def in_line(self, lane: Lane) -> int:
        """How many of a lane may wait."""
        return max(8, self.whole.slots * (1 if lane is Lane.STAT else 2))

    def in_line_of_client(self, lane: Lane) -> int:
        return self.in_line(lane) // 2


@dataclass(frozen=True)
class Load:
    """What this process has in the engine now."""

    by_lane: Mapping[Lane, Use] = field(default_factory=dict)
    of_client: Use = field(default_factory=Use)

    def of(self, lane: Lane) -> Use:
        return self.by_lane.get(lane, Use())

    @property
    def total(self) -> Use:
        return sum(self.by_lane.values(), Use())


class Held(Enum):
    """Whom a request that may not go yet holds up: those behind it who would take the same room."""

    NOBODY = ""
    CLIENT = "client"
    LANE = "lane"
    ALL = "all"


@dataclass(frozen=True)
class Verdict:
    """In, or not yet and for want of what."""

    held: Held

    @property
    def admitted(self) -> bool:
        return self.held is Held.NOBODY


def answer_tokens(max_tokens: int | None, *, usual: float) -> int:
    """The longest answer to reckon with: what was asked for, or twice the usual."""
    return max_tokens if max_tokens is not None else math.ceil(2 * usual)


def need(*, chars: int, answer: int, widest: int) -> Use:
    """What a request reserves before the engine has counted its prompt.

    Three characters a token is on the high side for clinical English, on purpose. A request wider than its lane is held
    to the lane's width: alone, it gets in.
    """
    return Use(1, min(chars // 3 + 1 + answer, widest))


def corrected(*, prompt: int, answer: int, written: int, widest: int) -> Use:
    """The same once the engine has counted: never less than what is there already."""
    return Use(1, max(prompt + written, min(prompt + answer, widest)))


def may_admit(*, lane: Lane, need: Use, load: Load, limits: Limits, pressure: Pressure = Pressure.CLEAR) -> Verdict:
    """May one more of this lane and client go to the engine now."""
    if pressure is Pressure.HELD:
        return Verdict(Held.ALL)
    if not (load.of_client + need).within(limits.client):
        return Verdict(Held.CLIENT)
    if not (load.total + need).within(limits.whole):
        return Verdict(Held.ALL)
    if lane is Lane.STAT:
        return Verdict(Held.NOBODY)
    if not (load.total - load.of(Lane.STAT) + need).within(limits.people_and_jobs):
        return Verdict(Held.ALL)
    if not (load.of(lane) + need).within(_under(pressure, lane, limits)):
        return Verdict(Held.LANE)
    return Verdict(Held.NOBODY)


def _under(pressure: Pressure, lane: Lane, limits: Limits) -> Use:
    """What a lane may hold while the cards are as they are. Places only: fewer tokens could shut a request out."""
    bound = limits.jobs if lane is Lane.BATCH else limits.people_and_jobs
    if pressure is Pressure.CLEAR or (lane is Lane.INTERACTIVE and pressure is not Pressure.HOT):
        return bound
    if lane is Lane.INTERACTIVE:
        return Use(max(1, bound.slots // 2), bound.tokens)
    return Use(0 if pressure is Pressure.HOT else max(1, bound.slots // 4), bound.tokens)


def closed(lane: Lane, limits: Limits, pressure: Pressure) -> bool:
    """Nothing of that lane goes in, however long it waits."""
    if pressure is Pressure.HELD:
        return True
    return lane is not Lane.STAT and _under(pressure, lane, limits).slots == 0


def turns(oldest: Mapping[Lane, float]) -> list[Lane]:
    """The lanes that have somebody in line, in the order of their turn; `oldest` is when each one's oldest came.

    stat always first. Batch comes after interactive until it has aged, so it is late but never left.
    """
    after = {Lane.STAT: -math.inf, Lane.INTERACTIVE: 0.0, Lane.BATCH: AGES_AFTER_S}
    return sorted(oldest, key=lambda lane: oldest[lane] + after[lane])


def expected_wait_s(*, turn: int, running: int, per_slot: float) -> float:
    """When the turn-th place from now comes free, at the rate at which so many running ones came free lately."""
    rate = per_slot * max(1, running)
    return turn / rate if rate > 0 else math.inf


def retry_after_s(wait_s: float) -> int:
    """The header: whole seconds, never zero and never longer than a minute, by when the rate is another."""
    return max(1, math.ceil(min(wait_s, _LONGEST_RETRY_S)))
