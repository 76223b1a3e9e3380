"""The asyncio side of the queue's rows: Django's calls in threads of their own, bounded in time.

An event loop must never wait for the database itself, and a caller never longer than a moment: what takes longer is
answered with 503 and found again by its Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from django.db import Error as DatabaseError
from django.db import connection
from psycopg.errors import LockNotAvailable

from inference.queue.errors import QueueError

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST_S = 8.0
_LONGEST_WAIT_S = 4.0
_MOST_WAITING = 128
_bounded = threading.local()

client_here: ContextVar[str] = ContextVar("client_here", default="")
"""For whom the calls of this task are: set by the door once it knows; a worker's are for nobody."""


class DatabaseUnavailableError(QueueError):
    """PostgreSQL did not answer. Whether a write happened is not known; asking again with the same key is safe."""

    def __init__(self) -> None:
        super().__init__("database_unavailable", "the request cannot be put on the books now; ask again")


class RowsBusyError(QueueError):
    """Nothing was done: somebody else is at the very row, or this client's calls take up all the places it has."""


class Rows:
    """A few threads, each with a connection of its own.

    `per_client` of them serve one client at once and its other calls wait without a thread: whatever one client does,
    the others find a place. `lock_s` bounds the wait for a row that somebody else holds.
    """

    def __init__(self, threads: int, *, per_client: int = 0, lock_s: float = 0.0) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="rows")
        self._per_client = per_client
        self._lock_s = lock_s
        self._places: dict[str, _Places] = {}  # one for each of the hospital's apps

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one service or selector; DatabaseUnavailableError when the database is not there."""
        places = self._of_client()
        if places is not None:
            await places.take()
        running = asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: _healthy(self._lock_s, function, *args, **kwargs)
        )
        if places is not None:
            # When the thread is free again, not when its caller has given up: that is sooner.
            running.add_done_callback(places.give)
        try:
            async with asyncio.timeout(_LONGEST_S):
                return await asyncio.shield(running)
        except TimeoutError:
            running.add_done_callback(_looked_at)
            raise DatabaseUnavailableError from None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _of_client(self) -> _Places | None:
        client = client_here.get()
        return self._places.setdefault(client, _Places(self._per_client)) if client and self._per_client else None


class _Places:
    """How many threads one client may have at once, and who stands in line for them."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self._waiting = 0

    async def take(self) -> None:
        if self._waiting >= _MOST_WAITING:
            raise _full()
        self._waiting += 1
        try:
            async with asyncio.timeout(_LONGEST_WAIT_S):
                await self._free.acquire()
        except TimeoutError:
            raise _full() from None
        finally:
            self._waiting -= 1

    def give(self, _done: object) -> None:
        self._free.release()


def _full() -> RowsBusyError:
    return RowsBusyError("client_queue_full", "this client has too many calls at once; ask again", retry_after_s=2)


def _healthy(lock_s: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    try:
        connection.close_if_unusable_or_obsolete()
        if lock_s:
            _bound_waiting(lock_s)
        return function(*args, **kwargs)
    except DatabaseError as error:
        # A broken connection is not tried twice. The text of the error may quote a row: it goes no further.
        connection.close()
        if isinstance(error.__cause__, LockNotAvailable):
            raise RowsBusyError("busy", "that is being worked on; ask again", retry_after_s=2) from None
        raise DatabaseUnavailableError from None


def _bound_waiting(lock_s: float) -> None:
    """Once for each connection."""
    connection.ensure_connection()
    if getattr(_bounded, "connection", None) is not connection.connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{int(lock_s * 1000)}ms"])
        _bounded.connection = connection.connection


def _looked_at(future: asyncio.Future[R]) -> None:
    if not future.cancelled():
        future.exception()
