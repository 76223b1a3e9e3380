"""Wait for something to become true, with a deadline and a sentence for when it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

T = TypeVar("T")
INTERVAL_S = 0.05


def until(predicate: Callable[[], T | Literal[False] | None], seconds: float, what: str) -> T:
    """Return the predicate's first true value; fail with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what} (last: {value!r})")
        time.sleep(INTERVAL_S)


async def until_async(predicate: Callable[[], Awaitable[T | Literal[False] | None]], seconds: float, what: str) -> T:
    """The same, for tests that run in an event loop."""
    deadline = time.monotonic() + seconds
    while True:
        value = await predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what} (last: {value!r})")
        await asyncio.sleep(INTERVAL_S)
