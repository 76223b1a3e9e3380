"""The asyncio writer: one shard per process, one commit for all that waits.

While one commit is in flight, everything that arrives waits and goes into the next: no timer, and the busier the box
the larger the groups. `put` returns when the record is durable; a failure means it may not be, so the caller must not
go on. After any database error the channel opens a new shard: whether the old commit happened is then visible in the
old shard, and neither shard can have a gap or a repeat. Until the old shard can be read, nothing else is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection

from appliance.audit import chain
from appliance.audit.commit import Commits
from appliance.audit.entry import Entry, Position
from appliance.audit.errors import AuditUnavailableError

log = logging.getLogger(__name__)

_LONGEST_QUEUE = 4096
_RECONNECT_SECONDS = 0.5
_COMMIT_SECONDS = 10.0


@dataclass
class _Waiting:
    entry: Entry
    keep: bool
    done: asyncio.Future[Position]


@dataclass(frozen=True)
class _Doubt:
    """A batch whose COMMIT was not answered. Only its shard knows whether it happened."""

    shard: int
    first: int
    batch: list[_Waiting]


class Channel:
    """Durable records from one event loop; open with `open`, one per process."""

    def __init__(self, conninfo: str, writer: str) -> None:
        self._conninfo = conninfo
        self._writer = writer
        self._connection: AsyncConnection[tuple[object, ...]] | None = None
        self._commits: Commits | None = None
        self._shard = 0
        self._seq = 0
        self._queue: list[_Waiting] = []
        self._doubt: _Doubt | None = None
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._closing = False
        self._flusher: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, conninfo: str, *, writer: str) -> Channel:
        """Start the writer. It connects by itself, and again after each loss; until then `put` refuses."""
        channel = cls(conninfo, writer)
        await channel._reconnect()
        channel._wake.set()  # without a connection, this first turn is the one that begins to ask again
        channel._flusher = asyncio.create_task(channel._run())
        return channel

    @property
    def available(self) -> bool:
        """Whether there is a connection that worked last time."""
        return self._connection is not None

    def put(self, entry: Entry, *, keep: bool = False) -> asyncio.Future[Position]:
        """Make one record durable: its place, or AuditUnavailableError. Who stops waiting does not stop the writing.

        `keep` is for outcomes: the work is done, so the record is held and written when the database is back.
        """
        done: asyncio.Future[Position] = self._loop.create_future()
        if self._closing or (self._connection is None and not keep) or len(self._queue) >= _LONGEST_QUEUE:
            done.set_exception(AuditUnavailableError("the audit log cannot take a record now"))
        else:
            self._queue.append(_Waiting(entry, keep, done))
            self._wake.set()
        return done

    async def close(self) -> None:
        """Write what is queued and stop; what cannot be written is reported as unavailable."""
        self._closing = True
        self._wake.set()
        if self._flusher is not None:
            await self._flusher
        await self._drop()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._connection is None and not await self._reconnect():
                self._refuse_waiting()
                if self._closing:
                    return
                await asyncio.sleep(_RECONNECT_SECONDS)  # the database is away: ask again, do not spin
                self._wake.set()
                continue
            if self._queue:
                batch, self._queue = self._queue, []
                await self._write(batch)
                self._wake.set()
            elif self._closing:
                return

    async def _write(self, batch: list[_Waiting]) -> None:
        first = self._seq + 1
        rows = [
            chain.values(Position(self._shard, number), waiting.entry) for number, waiting in enumerate(batch, first)
        ]
        if self._commits is None:
            raise RuntimeError("written before connected")
        try:
            async with asyncio.timeout(_COMMIT_SECONDS):
                await self._commits.rows(rows)
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.warning("audit_write_failed", extra={"error_type": type(error).__name__, "rows": len(batch)})
            # A number that is taken was taken by somebody else: nothing of this batch is in the log.
            await self._recover(batch, first, perhaps=not isinstance(error, psycopg.errors.UniqueViolation))
            return
        self._seq += len(batch)
        for i, waiting in enumerate(batch):
            if not waiting.done.done():
                waiting.done.set_result(Position(self._shard, first + i))

    async def _recover(self, batch: list[_Waiting], first: int, *, perhaps: bool) -> None:
        """After a failed write: the old shard will tell what was committed, if any may be; the rest is refused or kept."""
        doubt = _Doubt(self._shard, first, batch)
        await self._drop()
        self._doubt = doubt if perhaps else None
        connected = await self._reconnect()
        if not perhaps:
            self._resolve(doubt, committed=0)
        if not connected:
            self._refuse_waiting()
        self._wake.set()

    async def _settle(self, connection: AsyncConnection[tuple[object, ...]]) -> None:
        if self._doubt is None:
            return
        async with asyncio.timeout(_COMMIT_SECONDS):
            cursor = await connection.execute(
                "SELECT coalesce(max(seq), 0) FROM audit_record WHERE shard = %s", [self._doubt.shard]
            )
            row = await cursor.fetchone()
        doubt, self._doubt = self._doubt, None
        self._resolve(doubt, committed=int(str(row[0])) if row else 0)

    def _resolve(self, doubt: _Doubt, *, committed: int) -> None:
        kept: list[_Waiting] = []
        for number, waiting in enumerate(doubt.batch, doubt.first):
            if waiting.done.done():
                continue
            if number <= committed:
                waiting.done.set_result(Position(doubt.shard, number))
            elif waiting.keep:
                kept.append(waiting)
            else:
                waiting.done.set_exception(AuditUnavailableError("the record did not become durable"))
        self._queue = kept + self._queue

    def _refuse_waiting(self) -> None:
        """While the database is away: nobody waits but for an outcome, and on closing not even for that."""
        doubtful = self._doubt.batch if self._doubt else []
        for waiting in (*doubtful, *self._queue):
            if (self._closing or not waiting.keep) and not waiting.done.done():
                waiting.done.set_exception(AuditUnavailableError("the audit log is not reachable"))
        self._queue = [waiting for waiting in self._queue if not waiting.done.done()]

    async def _reconnect(self) -> bool:
        try:
            connection = await self._connect()
            await self._settle(connection)
            async with asyncio.timeout(_COMMIT_SECONDS):
                self._commits = Commits(connection.pgconn)
                await self._commits.prepare()
        except (psycopg.Error, OSError, TimeoutError):
            await self._drop()
            return False
        return True

    async def _connect(self) -> AsyncConnection[tuple[object, ...]]:
        async with asyncio.timeout(_COMMIT_SECONDS):
            connection = await AsyncConnection.connect(
                self._conninfo, autocommit=True, connect_timeout=3, application_name=f"audit {self._writer}"
            )
            cursor = await connection.execute(
                "INSERT INTO audit_shard (writer, opened_at, last_seq) VALUES (%s, now(), 0) RETURNING id",
                [self._writer],
            )
            row = await cursor.fetchone()
        if row is None:
            raise AuditUnavailableError("the database gave no shard")
        self._connection, self._shard, self._seq = connection, int(str(row[0])), 0
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        commits, self._commits = self._commits, None
        if commits is not None:
            commits.close()
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()
