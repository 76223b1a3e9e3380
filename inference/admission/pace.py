"""How fast places come free, how soon a first token comes, how long answers are: measured, and recent.

Sums that forget: each counts the last half minute most and is read as a ratio, so a quiet night keeps the last known
pace instead of calling the engine slow because nobody asked. The caller passes the time.
"""

from __future__ import annotations

import math

from inference.policy.catalog import Lane

MEMORY_S = 30.0
# After some hours of silence a sum is too small a number to divide by.
_NOTHING = 1e-250
_BENEFIT_OF_DOUBT = 3.0
_SLOWEST_SHOWN = 0.001
_MOST_CLIENTS = 256


class Recent:
    """A sum in which what is older than MEMORY_S counts for little."""

    def __init__(self, start: float = 0.0, *, now: float) -> None:
        self._sum = start
        self._at = now

    def add(self, amount: float, now: float) -> None:
        self._sum = self.value(now) + amount
        self._at = now

    def hold(self, level: float, now: float) -> None:
        """Add a level that was held ever since the last call."""
        # The integral of the level under the same forgetting, so that a long hold is worth what it should be.
        forgotten = math.exp(-(now - self._at) / MEMORY_S)
        self._sum = self._sum * forgotten + level * MEMORY_S * (1 - forgotten)
        self._at = now

    def value(self, now: float) -> float:
        return self._sum * math.exp(-(now - self._at) / MEMORY_S)

    def per_second(self, now: float) -> float:
        return self.value(now) / MEMORY_S


class Pace:
    """The measures of one process."""

    def __init__(self, *, now: float) -> None:
        # A first guess, one place a second: soon outweighed by what is measured.
        self._left = Recent(1.0, now=now)
        self._held = Recent(1.0, now=now)
        # By lane: what batch waits for in the engine says nothing about stat.
        self._first_s = {lane: Recent(now=now) for lane in Lane}
        self._firsts = {lane: Recent(now=now) for lane in Lane}
        self._answer_tokens = Recent(256.0, now=now)
        self._answers = Recent(1.0, now=now)
        self._of_lane = {lane: Recent(now=now) for lane in Lane}
        self._of_client: dict[str, Recent] = {}

    def held(self, slots: int, now: float) -> None:
        """So many places were held until now. Said before each change of that number."""
        self._held.hold(slots, now)

    def left(self, now: float, *, lane: Lane, client: str) -> None:
        """One place came free, however its work ended."""
        self._left.add(1, now)
        self._of_lane[lane].add(1, now)
        if client not in self._of_client:
            if len(self._of_client) >= _MOST_CLIENTS:
                self._of_client = {name: self._of_client[name] for name in self.clients(now)}
            self._of_client[client] = Recent(now=now)
        self._of_client[client].add(1, now)

    def per_second(self, now: float, *, lane: Lane | None = None, client: str = "") -> float:
        """How many of a lane, or else of a client, ended per second."""
        recent = self._of_client.get(client) if lane is None else self._of_lane[lane]
        return 0.0 if recent is None else recent.per_second(now)

    def clients(self, now: float) -> frozenset[str]:
        """Who had something end lately."""
        return frozenset(name for name, recent in self._of_client.items() if recent.per_second(now) > _SLOWEST_SHOWN)

    def began(self, after_s: float, now: float, *, lane: Lane) -> None:
        """A first token came so long after the place was taken."""
        self._first_s[lane].add(after_s, now)
        self._firsts[lane].add(1, now)

    def answered(self, tokens: int, now: float) -> None:
        """An answer came to its end."""
        self._answer_tokens.add(tokens, now)
        self._answers.add(1, now)

    def per_slot(self, now: float) -> float:
        """Places freed per second and place held. Zero when much is held and nothing ends."""
        held = self._held.value(now)
        return self._left.value(now) / held if held > _NOTHING else 1.0

    def first_token_s(self, now: float, *, lane: Lane) -> float:
        """How long a first token takes, at the least.

        With few of them lately it tends to zero: one long prompt must not turn others away, and somebody must try.
        """
        return self._first_s[lane].value(now) / (self._firsts[lane].value(now) + _BENEFIT_OF_DOUBT)

    def usual_answer(self, now: float) -> float:
        """Tokens of an answer."""
        answers = self._answers.value(now)
        return self._answer_tokens.value(now) / answers if answers > _NOTHING else 256.0
