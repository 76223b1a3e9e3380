"""Refusals go on record too, and a flood of them must not flood the log.

Each refusal of a known client is one record, up to a rate; beyond it, and for callers without a key, refusals with the
same code are counted and recorded together once a second. The counts are exact: nothing is dropped, and what cannot be
written now is written when the log is back.

- Each names the user it was asked for. A caller can invent users without end, so only so many are told apart at a time;
  the refusals of further ones are counted without a name.
- PHI asked for without the right to it is an act of its own in the log (S4-7), whichever way the right was missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from typing import NamedTuple

from appliance.audit.actions import Action
from appliance.audit.entry import Entry, now_us
from appliance.audit.errors import AuditUnavailableError
from inference.policy.rules import Rights
from inference.serve import Book, refused_as

_FLUSH_S = 1.0
_RATE_PER_S = 5.0
_BURST = 20.0
_MOST_NAMED = 500


class Key(NamedTuple):
    """What refusals have in common that are recorded together."""

    client: str
    key_id: str
    code: str
    end_user: str = ""
    proved: bool = False

    @classmethod
    def of(cls, code: str, rights: Rights | None, end_user: str) -> Key:
        if rights is None:
            return cls("", "", code)
        return cls(rights.client, rights.key_id, code, rights.end_user or end_user, proved=bool(rights.end_user))

    def unnamed(self) -> Key:
        return Key(self.client, self.key_id, self.code)


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

    async def record(self, code: str, *, request_id: str, rights: Rights | None, end_user: str = "") -> None:
        """One refusal. Never fails: the refusal itself stands whatever becomes of its record."""
        if rights is None or not self._may_write_one(rights.client):
            self.count(code, rights=rights, end_user=end_user)
            return
        try:
            await self._book.put(_entry(Key.of(code, rights, end_user), 1, request_id))
        except AuditUnavailableError:
            self.count(code, rights=rights, end_user=end_user)

    def count(self, code: str, *, rights: Rights | None, end_user: str = "") -> None:
        """One refusal to be written later, for when the log itself is why."""
        key = Key.of(code, rights, end_user)
        # Without its user a key is one of the clients, their keys and our codes: as many as there are, and no more.
        self._tally[key if key in self._tally or len(self._tally) < _MOST_NAMED else key.unnamed()] += 1

    async def flush(self) -> None:
        """Write what was counted; what cannot be written is counted on."""
        for key in list(self._tally):
            count = self._tally.pop(key)  # as it is now: it went on counting while the one before was written
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
    action, event = refused_as(key.code, Action.INFERENCE_REFUSED)
    return Entry(
        at_us=now_us(),
        kind="refusal",
        action=action.value,
        actor=key.client or "unknown",
        outcome=key.code,
        request_id=request_id,
        client=key.client,
        key_id=key.key_id,
        end_user=key.end_user,
        detail=json.dumps({"count": count, "user_proved": key.proved, **event}),
    )
