"""One place in the engine, and the answer that is written in it: its deadline, its tokens, its first word.

Whether and when a place is given is `lanes`; here is what may happen while it is held.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from inference.admission import rules
from inference.admission.errors import DeadlineExceededError
from inference.admission.pace import Pace
from inference.engines.engine import Piece
from inference.policy.catalog import Lane


class Giver(Protocol):
    """Who gave the place, and keeps the counts."""

    pace: Pace

    def correct(self, place: Place, use: rules.Use) -> None: ...

    def too_late(self, lane: Lane, client: str) -> DeadlineExceededError: ...


class Place:
    """Held until the block of `Lanes.slot` ends."""

    def __init__(
        self,
        giver: Giver,
        *,
        lane: Lane,
        client: str,
        use: rules.Use,
        answer: int,
        widest: int,
        deadline: float | None,
    ) -> None:
        self.lane = lane
        self.client = client
        self.use = use
        self._answer = answer
        self._widest = widest
        self._deadline = deadline
        self._giver = giver
        self._since = time.monotonic()
        self._began = False
        self._counted = False

    def in_time(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """The same pieces; DeadlineExceededError when the deadline passes, and the generation is closed then."""
        return pieces if self._deadline is None else self._until(self._deadline, pieces)

    def saw(self, piece: Piece) -> None:
        """Learn from a piece: how soon the first came, what the prompt weighs, how long the answer was."""
        usage = piece.usage
        if not self._began:
            self._began, now = True, time.monotonic()
            self._giver.pace.began(now - self._since, now, lane=self.lane)
        # Once when the engine has counted the prompt, and again only if the answer outgrows what was reserved.
        if usage.input_tokens and (not self._counted or usage.output_tokens > self._answer):
            self._counted = True
            use = rules.corrected(
                prompt=usage.input_tokens, answer=self._answer, written=usage.output_tokens, widest=self._widest
            )
            if use != self.use:
                self._giver.correct(self, use)
        if piece.finish is not None and usage.output_tokens:  # an embedding has no answer to learn from
            self._giver.pace.answered(usage.output_tokens, time.monotonic())

    async def _until(self, deadline: float, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        async with aclosing(pieces):
            while (left := deadline - time.monotonic()) > 0:
                # The limit is on this one wait: a timeout that spans a yield would fire in whoever is reading us.
                try:
                    async with asyncio.timeout(left):
                        piece = await anext(pieces, None)
                except TimeoutError:
                    break
                if piece is None:
                    return
                yield piece
        raise self._giver.too_late(self.lane, self.client)
