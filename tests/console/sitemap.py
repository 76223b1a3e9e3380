"""Every address of the console, read from the URL configuration itself, with an argument of each kind filled in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

FILLED = {
    "import_id": "1",
    "change_id": "1",
    "alert_id": "1",
    "key_id": "1",
    "key": "0" * 40,
    "review_id": "1",
    "opening_id": "1",
    "event_id": "1",
    "channel": "soc",
    "uuid": "GPU-1",
    "shard": "1",
    "seq": "1",
    "digest": "a" * 64,
    "name": "ward-7",
    "prefix": "iwk_00000000",
    "username": "nobody",
    "ref": "job_0",
    "task": "data_analyst",
}


@dataclass(frozen=True)
class Address:
    """One page: its name, a path that reaches it, and the view behind it."""

    name: str
    path: str
    view: Callable[..., Any]

    @property
    def permission(self) -> str | None:
        """What @requires says; "own" for pages about oneself; None for public ones."""
        return None if self.view.permission is None else str(self.view.permission)  # type: ignore[attr-defined]  # set by access


def addresses() -> tuple[Address, ...]:
    """Every address there is."""
    return tuple(_walk(get_resolver().url_patterns, ""))


def _walk(patterns: list[URLPattern | URLResolver], prefix: str) -> list[Address]:
    found: list[Address] = []
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found += _walk(pattern.url_patterns, route)
        else:
            path = "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda match: FILLED[match.group(1)], route)
            found.append(Address(pattern.name or "", path, pattern.callback))
    return found
