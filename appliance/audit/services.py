"""Writing to the log from inside a transaction, and the marks that stand for patient text.

`record` joins the caller's transaction, so an act and its record are durable together or not at all. `refuse` is for
the doors: it runs after the act was rolled back, in a transaction of its own, so that refusals are never lost with
what they refused. Requests of clinical apps go through `channel` instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection, transaction

from appliance.audit import chain
from appliance.audit.actions import Action
from appliance.audit.entry import Entry, Position, now_us

LEDGER = "ledger"
Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]


_F = TypeVar("_F", bound=Callable[..., Any])


def unaudited(reason: str) -> Callable[[_F], _F]:
    """Mark a service that leaves no record, and say why; a test of the source insists on one or the other."""

    def mark(function: _F) -> _F:
        function.unaudited = reason  # type: ignore[attr-defined]  # read by the architecture test
        return function

    return mark


def record(
    *,
    actor: str,
    action: Action,
    target: str = "",
    outcome: str = "ok",
    kind: str = "act",
    request_id: str = "",
    client: str = "",
    key_id: str = "",
    end_user: str = "",
    change_id: int = 0,
    release: str = "",
    detail: Mapping[str, Json] | None = None,
) -> Position:
    """Write one record in the caller's transaction; RuntimeError outside of one.

    Call it last: it takes the ledger's row lock, which keeps the numbers gapless and lasts until the commit.
    """
    entry = Entry(
        at_us=now_us(),
        kind=kind,
        action=action.value,
        actor=actor,
        outcome=outcome,
        target=target,
        request_id=request_id,
        client=client,
        key_id=key_id,
        end_user=end_user,
        change_id=change_id,
        release=release,
        detail=json.dumps(detail or {}, sort_keys=True),
    )
    return write(entry)


@unaudited("this is the audit itself")
def write(entry: Entry) -> Position:
    """Write a whole entry in the caller's transaction, under the ledger's next number."""
    return write_all([entry])[0]


@unaudited("this is the audit itself")
def refuse(
    *,
    actor: str,
    action: Action = Action.REFUSED,
    target: str = "",
    outcome: str,
    detail: Mapping[str, Json] | None = None,
) -> Position:
    """Record a refusal in its own transaction, after the refused act was rolled back."""
    # Durable: inside the refused transaction the record would vanish with what it refused.
    with transaction.atomic(durable=True):
        return record(actor=actor, action=action, target=target, outcome=outcome, kind="refusal", detail=detail)


class OwnShard:
    """A run of numbers that one process alone counts, for records that are written with the rows they are about.

    The process commits many records at a time and nobody waits for the ledger's lock. After any failure the numbers
    are not used again: whether that commit happened is not known, and a new shard begins.
    """

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self._shard = 0
        self._last = 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction of rows and records, durable on return."""
        try:
            with transaction.atomic(durable=True):
                yield
        except BaseException:
            self._shard = self._last = 0
            raise

    def take(self, cursor: Any, count: int) -> Position:
        """The first of the next `count` numbers."""
        if not self._shard:
            cursor.execute(
                "INSERT INTO audit_shard (writer, opened_at, last_seq) VALUES (%s, now(), 0) RETURNING id",
                [self._writer],
            )
            self._shard, self._last = int(cursor.fetchone()[0]), 0
        first = self._last + 1
        self._last += count
        return Position(self._shard, first)


@unaudited("this is the audit itself")
def write_all(entries: Sequence[Entry], *, shard: OwnShard | None = None) -> list[Position]:
    """Write many entries in the caller's transaction by one COPY, in the ledger or in the caller's own shard."""
    if not connection.in_atomic_block:
        raise RuntimeError("an audit record outside a transaction could outlive the act it describes")
    if not entries:
        return []
    with connection.cursor() as cursor:
        count = len(entries)
        first = _next_in_ledger(cursor, count) if shard is None else shard.take(cursor, count)
        positions = [Position(first.shard, first.seq + number) for number in range(count)]
        with cursor.copy(chain.COPY_IN) as copy:
            copy.write(chain.copy_bytes(map(chain.encode, positions, entries)))
    return positions


def fingerprint(data: bytes | bytearray, *, use: str = "text") -> tuple[str, str]:
    """(key id, hex HMAC-SHA256) that stands for a text or a patient in the log.

    A plain hash of a record number can be guessed by trying them all; without the key, this cannot.
    """
    key_id, begun = _mark(use)
    mark = begun.copy()
    mark.update(data)  # not joined: a copy of a recording would outlive the wiping of it
    return key_id, mark.hexdigest()


@lru_cache(maxsize=8)
def _mark(use: str) -> tuple[str, hmac.HMAC]:
    """The key's id, and the mark as far as it is the same for all data of one use. Read once per process."""
    key = settings.SITE.secret("audit-hmac")
    key_id = hashlib.sha256(b"isoward-hmac-key-id\n" + key).hexdigest()[:8]
    return key_id, hmac.new(key, use.encode() + b"\n", hashlib.sha256)


def _next_in_ledger(cursor: Any, count: int) -> Position:
    """Take the next numbers under the row lock, the first is returned: a transaction that rolls back gives them back."""
    cursor.execute(
        "INSERT INTO audit_shard (writer, opened_at, last_seq) VALUES (%s, now(), %s) "
        "ON CONFLICT (writer) WHERE writer = 'ledger' "
        "DO UPDATE SET last_seq = audit_shard.last_seq + EXCLUDED.last_seq RETURNING id, last_seq",
        [LEDGER, count],
    )
    shard, last = cursor.fetchone()
    return Position(int(shard), int(last) - count + 1)
