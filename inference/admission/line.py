"""Who stands in line, and who is next. Whether the next one may go is `rules`; giving it a place is `lanes`.

Within a lane the client that has least in the engine goes first, and within a client the one that came first: a client
that sends a hundred requests delays its own, not another's one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from inference.admission import rules
from inference.policy.catalog import Lane


@dataclass(eq=False)
class Waiter:
    """One request in line. `turn` has a result once it was given a place, an error when it will get none."""

    lane: Lane
    client: str
    need: rules.Use
    since: float
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Line:
    """Everybody who waits in this process."""

    def __init__(self) -> None:
        # Dictionaries keep their order and let go of one in the middle at once: a caller may leave at any time.
        self._waiters: dict[Lane, dict[str, dict[Waiter, None]]] = {lane: {} for lane in Lane}
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def join(self, waiter: Waiter) -> None:
        self._count += 1
        self._waiters[waiter.lane].setdefault(waiter.client, {})[waiter] = None

    def leave(self, waiter: Waiter) -> None:
        """Out of the line; nothing when it was not in it."""
        clients = self._waiters[waiter.lane]
        own = clients.get(waiter.client, {})
        if waiter in own:
            self._count -= 1
            del own[waiter]
        if not own:
            clients.pop(waiter.client, None)

    def count(self, lane: Lane, client: str | None = None) -> int:
        """How many of a lane wait, all or one client's."""
        clients = self._waiters[lane]
        return len(clients.get(client, {})) if client is not None else sum(map(len, clients.values()))

    def oldest(self, lane: Lane) -> float | None:
        """When the one of a lane that has waited longest came."""
        return min((waiter.since for waiter in self._firsts(lane)), default=None)

    def clients(self) -> dict[str, list[Waiter]]:
        """Everybody, by client."""
        found: dict[str, list[Waiter]] = {}
        for clients in self._waiters.values():
            for client, waiters in clients.items():
                found.setdefault(client, []).extend(waiters)
        return found

    def next(self, judge: Callable[[Waiter], rules.Verdict], tokens_of: Callable[[str], int]) -> Waiter | None:
        """The one whose turn it is, if there is room for it.

        One that may not go keeps its turn: who would take the room it waits for does not overtake it, or a large
        request would wait for ever behind small ones.
        """
        oldest = {lane: since for lane in Lane if (since := self.oldest(lane)) is not None}
        for lane in rules.turns(oldest):
            for waiter in sorted(self._firsts(lane), key=lambda each: (tokens_of(each.client), each.since)):
                verdict = judge(waiter)
                if verdict.admitted:
                    return waiter
                if verdict.held is rules.Held.ALL:
                    return None
                if verdict.held is rules.Held.LANE:
                    break
        return None

    def _firsts(self, lane: Lane) -> list[Waiter]:
        return [next(iter(waiters)) for waiters in self._waiters[lane].values()]
