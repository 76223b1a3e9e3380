"""The LAN API's surface, on one screen: every path, its methods, and whether it needs a key.

What is not listed here does not exist: any other path is a 404, any other method a 405.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from inference.api import (
    audio,
    batches,
    chat,
    completions,
    decisions,
    embeddings,
    explain,
    files,
    jobs,
    models,
    openapi,
    responses,
    tasks,
)
from inference.api.desk import Desk
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.policy.rules import Rights

Keyed = Callable[[Exchange, Desk, Rights, str], Awaitable[None]]
Open = Callable[[Exchange, Desk], Awaitable[None]]

_RESPONSE = r"resp_[0-9a-f]{24}"
_JOB = r"job_[0-9a-f]{24}"
_REQUEST = r"[A-Za-z0-9_.-]{1,64}"
_TASK = r"[a-z_]{1,64}"

# Anybody on the LAN
OPEN: dict[tuple[str, str], Open] = {
    ("GET", "/openapi.json"): openapi.serve,
    ("GET", "/v1/status"): models.status,
    ("HEAD", "/v1/status"): models.status,
}

# With a key
KEYED: list[tuple[str, str, Keyed]] = [
    ("GET", r"/v1/models", models.list_),
    ("GET", r"/v1/models/([A-Za-z0-9._-]{1,128})", models.retrieve),
    ("POST", r"/v1/chat/completions", chat.create),
    ("POST", r"/v1/responses", responses.create),
    ("GET", rf"/v1/responses/({_RESPONSE})", responses.retrieve),
    ("DELETE", rf"/v1/responses/({_RESPONSE})", responses.delete),
    ("POST", rf"/v1/responses/({_RESPONSE})/cancel", responses.cancel),
    ("POST", r"/v1/completions", completions.create),
    ("POST", r"/v1/embeddings", embeddings.create),
    ("POST", r"/v1/audio/transcriptions", audio.create),
    ("GET", r"/v1/tasks", tasks.list_),
    ("GET", rf"/v1/tasks/({_TASK})", tasks.retrieve),
    ("POST", rf"/v1/tasks/({_TASK})", tasks.run),
    ("GET", r"/v1/decisions", decisions.list_),
    ("POST", r"/v1/decisions", decisions.create),
    ("GET", rf"/v1/explain/({_REQUEST})", explain.retrieve),
    ("GET", r"/v1/jobs", jobs.list_),
    ("POST", r"/v1/jobs", jobs.create),
    ("GET", rf"/v1/jobs/({_JOB})", jobs.retrieve),
    ("DELETE", rf"/v1/jobs/({_JOB})", jobs.delete),
    ("POST", rf"/v1/jobs/({_JOB})/cancel", jobs.cancel),
    ("GET", r"/v1/files", files.list_),
    ("POST", r"/v1/files", files.create),
    ("GET", rf"/v1/files/({files.FILE})", files.retrieve),
    ("DELETE", rf"/v1/files/({files.FILE})", files.delete),
    ("GET", rf"/v1/files/({files.FILE})/content", files.content),
    ("GET", r"/v1/batches", batches.list_),
    ("POST", r"/v1/batches", batches.create),
    ("GET", rf"/v1/batches/({batches.BATCH})", batches.retrieve),
    ("POST", rf"/v1/batches/({batches.BATCH})/cancel", batches.cancel),
]

# The lists that are asked for a page at a time: no other route takes a query.
QUERIED = frozenset({decisions.list_, jobs.list_, files.list_, batches.list_})

_COMPILED = [(method, re.compile(path), handler) for method, path, handler in KEYED]


@dataclass(frozen=True)
class Route:
    """Where an exchange goes: exactly one of the two is set."""

    open: Open | None = None
    keyed: Keyed | None = None
    argument: str = ""

    @property
    def takes_query(self) -> bool:
        return self.keyed in QUERIED


def find(method: str, path: str) -> Route:
    """The route, or not_found or method_not_allowed."""
    allowed = {m for m, p in OPEN if p == path}
    if (method, path) in OPEN:
        return Route(open=OPEN[method, path])
    for verb, pattern, handler in _COMPILED:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        if verb == method:
            return Route(keyed=handler, argument=match[1] if pattern.groups else "")
        allowed.add(verb)
    if allowed:
        raise BadRequestError(
            "method_not_allowed", "that path does not take that method", allow=", ".join(sorted(allowed))
        )
    raise BadRequestError("not_found", "there is nothing at that path")
