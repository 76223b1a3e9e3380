"""Calls of the door upon rows: one client, and one row, cannot hold up the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction

from inference.policy.rules import Rights
from inference.queue import channel, selectors, services
from inference.queue.channel import Rows, RowsBusyError
from inference.queue.models import Batch
from tests.inference.queue import test_batches as batches


@contextmanager
def held(ref: str) -> Iterator[threading.Event]:
    """A batch's row is locked elsewhere until the event is set, as while its lines are read."""
    begun, free = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Batch.objects.select_for_update().get(ref=ref)
            begun.set()
            free.wait(20)
        connection.close()

    with ThreadPoolExecutor(max_workers=1) as pool:
        holding = pool.submit(hold)
        try:
            assert begun.wait(10)
            yield free
        finally:
            free.set()
            holding.result(10)


@pytest.fixture
def rows() -> Iterator[Callable[..., Rows]]:
    made: list[Rows] = []

    def make(**bounds: Any) -> Rows:
        made.append(Rows(threads=4, **bounds))
        return made[-1]

    yield make
    for each in made:
        each._threads.submit(connection.close)
        each._threads.shutdown()


def of(client: str, call: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
    """A task as the door has one for each exchange."""

    async def run() -> Any:
        channel.client_here.set(client)
        return await call()

    return asyncio.create_task(run())


def cancels(rows: Rows, rights: Rights, ref: str, count: int) -> list[asyncio.Task[Any]]:
    call = partial(rows.call, services.cancel_batch, actor="a", rights=rights, ref=ref)
    return [of(rights.client, call) for _ in range(count)]


def test_a_client_whose_calls_all_wait_leaves_threads_for_the_others(rights: Rights, rows: Callable[..., Rows]) -> None:
    ref = batches.accept(rights)
    pool = rows(per_client=2)

    async def run() -> list[Any]:
        with held(ref) as free:
            waiting = cancels(pool, rights, ref, 8)
            neighbour = of(
                "neighbour", partial(pool.call, selectors.batches, rights=replace(rights, client="neighbour"))
            )
            assert await asyncio.wait_for(neighbour, 5) == ((), False)
            assert not any(task.done() for task in waiting)
            free.set()
            return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == [None] * 8


def test_a_call_upon_a_row_that_is_being_worked_on_is_told_to_ask_again(
    rights: Rights, rows: Callable[..., Rows]
) -> None:
    ref = batches.accept(rights)
    pool = rows(lock_s=0.1)

    async def run() -> RowsBusyError:
        with held(ref), pytest.raises(RowsBusyError) as told:
            await pool.call(services.cancel_batch, actor="a", rights=rights, ref=ref)
        await pool.call(services.cancel_batch, actor="a", rights=rights, ref=ref)
        return told.value

    told = asyncio.run(run())
    assert (told.code, told.retry_after_s) == ("busy", 2)


def test_a_client_has_only_so_many_calls_in_line(
    rights: Rights, rows: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_MOST_WAITING", 3)
    ref = batches.accept(rights)
    pool = rows(per_client=2)

    async def run() -> list[Any]:
        with held(ref) as free:
            waiting = cancels(pool, rights, ref, 6)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=5)
            free.set()
            return await asyncio.gather(*waiting, return_exceptions=True)

    found = asyncio.run(run())
    assert [error.code for error in found if isinstance(error, RowsBusyError)] == ["client_queue_full"]
