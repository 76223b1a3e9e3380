"""Refusals go on record too, and a flood of them must not flood the log.

Each refusal of a known client is one record, up to a rate; beyond it, and for callers without a key, refusals with the
same code are counted and recorded together once a second. The counts are exact: nothing is dropped, and what cannot be
written now is written when the log is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter

from appliance.audit.actions import Action
from appliance.audit.entry import Entry, now_us
from appliance.audit.errors import AuditUnavailableError
from inference.policy.rules import Rights
from inference.serve import Book

_FLUSH_S = 1.0
_RATE_PER_S = 5.0
_BURST = 20.0

Key = tuple[str, str, str]  # client, key id, code


class Refusals:
    """The tally of one process."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._tally: Counter[Key] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}
        self._flusher: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._flusher = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flusher
        await self.flush()

    async def record(self, code: str, *, request_id: str, rights: Rights | None) -> None:
        """One refusal. Never fails: the refusal itself stands whatever becomes of its record."""
        if rights is None or not self._may_write_one(rights.client):
            self.count(code, rights=rights)
            return
        try:
            await self._book.put(_entry((rights.client, rights.key_id, code), 1, request_id))
        except AuditUnavailableError:
            self.count(code, rights=rights)

    def count(self, code: str, *, rights: Rights | None) -> None:
        """One refusal to be written later, for when the log itself is why."""
        self._tally[(rights.client if rights else "", rights.key_id if rights else "", code)] += 1

    async def flush(self) -> None:
        """Write what was counted; what cannot be written is counted on."""
        for key, count in list(self._tally.items()):
            del self._tally[key]
            try:
                await self._book.put(_entry(key, count, ""))
            except AuditUnavailableError:
                self._tally[key] += count

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            await self.flush()

    def _may_write_one(self, client: str) -> bool:
        """A token bucket per known client; there are as many as the hospital has apps."""
        now = time.monotonic()
        tokens, filled = self._buckets.get(client, (_BURST, now))
        tokens = min(_BURST, tokens + (now - filled) * _RATE_PER_S)
        self._buckets[client] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1


def _entry(key: Key, count: int, request_id: str) -> Entry:
    client, key_id, code = key
    return Entry(
        at_us=now_us(),
        kind="refusal",
        action=Action.INFERENCE_REFUSED.value,
        actor=client or "unknown",
        outcome=code,
        request_id=request_id,
        client=client,
        key_id=key_id,
        detail=json.dumps({"count": count}),
    )
