"""The asyncio side of the queue's rows: Django's calls in threads of their own, bounded in time.

An event loop must never wait for the database itself, and a caller never longer than a moment: what takes longer is
answered with 503 and found again by its Idempotency-Key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import Error as DatabaseError
from django.db import connection

from inference.queue.errors import QueueError

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST_S = 8.0


class DatabaseUnavailableError(QueueError):
    """PostgreSQL did not answer. Whether a write happened is not known; asking again with the same key is safe."""

    def __init__(self) -> None:
        super().__init__("database_unavailable", "the request cannot be put on the books now; ask again")


class Rows:
    """A few threads, each with a connection of its own."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="rows")

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one service or selector; DatabaseUnavailableError when the database is not there."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, lambda: _healthy(function, *args, **kwargs))
        try:
            async with asyncio.timeout(_LONGEST_S):
                return await asyncio.shield(running)
        except TimeoutError:
            running.add_done_callback(_looked_at)
            raise DatabaseUnavailableError from None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _healthy(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    try:
        connection.close_if_unusable_or_obsolete()
        return function(*args, **kwargs)
    except DatabaseError:
        # A broken connection is not tried twice. The text of the error may quote a row: it goes no further.
        connection.close()
        raise DatabaseUnavailableError from None


def _looked_at(future: asyncio.Future[R]) -> None:
    if not future.cancelled():
        future.exception()
