"""Rows made durable over one connection of libpq's, in as few round trips as there can be.

Decides how: one row by one prepared INSERT, which is one round trip with its commit; more by one COPY, which is two.
Either is a transaction by itself. Which rows, under which numbers, and what a failure means is `channel`.

psycopg's own coroutines cost more than the database here, so this uses the layer below them,
`psycopg.pq`, which psycopg documents as a wrapper of libpq for this purpose. While a `Commits` is open nobody else may
use its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psycopg
from psycopg import pq

from appliance.audit import chain

_NAME = b"audit_insert"
_BINARY = [pq.Format.BINARY] * (len(chain.COLUMNS) + 1)


class Commits:
    """One at a time. Any exception leaves the connection unfit for another."""

    def __init__(self, connection: pq.abc.PGconn) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._socket = connection.socket  # asked now: a lost connection does not say
        self._watched = True
        self._room = asyncio.Event()
        connection.nonblocking = 1
        self._loop.add_reader(self._socket, self._readable)

    async def prepare(self) -> None:
        """Once per connection, before the first row."""
        self._connection.send_prepare(_NAME, chain.INSERT_IN.encode())
        await self._done(pq.ExecStatus.COMMAND_OK)

    async def rows(self, rows: Sequence[list[bytes]]) -> None:
        """Durable on return."""
        if len(rows) == 1:
            core = chain.joined(rows[0])
            values = [*rows[0], chain.leaf(core)]
            self._connection.send_query_prepared(_NAME, values, param_formats=_BINARY, result_format=pq.Format.BINARY)
        else:
            self._connection.send_query(chain.COPY_IN.encode())
            await self._done(pq.ExecStatus.COPY_IN)
            data = chain.copy_bytes(map(chain.joined, rows))
            while not self._connection.put_copy_data(data):
                await self._writable()
            self._connection.put_copy_end()
        await self._done(pq.ExecStatus.COMMAND_OK)

    def close(self) -> None:
        """Leave the connection to whoever has it. Once: libpq closes the socket of a lost connection, and by the second
        time its number may belong to somebody else, who would then hear nothing any more.
        """
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)

    async def _done(self, wanted: pq.ExecStatus) -> None:
        """Send what is not sent, and wait for the answer; psycopg.Error when it is another one."""
        while self._connection.flush():
            await self._writable()
        found: psycopg.Error | None = None
        while True:
            while self._connection.is_busy():
                await self._news()
            result = self._connection.get_result()
            if result is None:
                break
            if result.status != wanted and found is None:
                found = psycopg.errors.error_from_result(result)
            if result.status == pq.ExecStatus.COPY_IN:
                break  # no more of them before the data
        if found is not None:
            raise found

    async def _news(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._failure is not None:
            raise self._failure

    async def _writable(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._room.clear()
        self._loop.add_writer(self._socket, self._room.set)
        try:
            await self._room.wait()
        finally:
            if self._watched:
                self._loop.remove_writer(self._socket)
        if self._failure is not None:
            raise self._failure

    def _readable(self) -> None:
        try:
            self._connection.consume_input()
        except psycopg.OperationalError as error:
            self._failure = error
            self.close()  # the end of the connection is readable for ever
            self._room.set()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
