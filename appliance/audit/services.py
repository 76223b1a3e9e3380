"""Writing to the log from inside a transaction, and the marks that stand for patient text.

`record` joins the caller's transaction, so an act and its record are durable together or not at all. `refuse` is for
the doors: it runs after the act was rolled back, in a transaction of its own, so that refusals are never lost with
what they refused. Requests of clinical apps go through `channel` instead.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
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
        change_id=change_id,
        release=release,
        detail=json.dumps(detail or {}, sort_keys=True),
    )
    return write(entry)


@unaudited("this is the audit itself")
def write(entry: Entry) -> Position:
    """Write a whole entry in the caller's transaction, under the ledger's next number."""
    if not connection.in_atomic_block:
        raise RuntimeError("an audit record outside a transaction could outlive the act it describes")
    with connection.cursor() as cursor:
        position = _next_in_ledger(cursor)
        with cursor.copy(chain.COPY_IN) as copy:
            copy.write(chain.copy_bytes([chain.encode(position, entry)]))
    return position


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


def fingerprint(data: bytes | bytearray, *, use: str = "text") -> tuple[str, str]:
    """(key id, hex HMAC-SHA256) that stands for a text or a patient in the log.

    A plain hash of a record number can be guessed by trying them all; without the key, this cannot.
    """
    key = settings.SITE.secret("audit-hmac")
    key_id = hashlib.sha256(b"isoward-hmac-key-id\n" + key).hexdigest()[:8]
    mark = hmac.new(key, use.encode() + b"\n", hashlib.sha256)
    mark.update(data)  # not joined: a copy of a recording would outlive the wiping of it
    return key_id, mark.hexdigest()


def _next_in_ledger(cursor: Any) -> Position:
    """Take the next number under the row lock: a transaction that rolls back gives its number back."""
    cursor.execute(
        "INSERT INTO audit_shard (writer, opened_at, last_seq) VALUES (%s, now(), 1) "
        "ON CONFLICT (writer) WHERE writer = 'ledger' "
        "DO UPDATE SET last_seq = audit_shard.last_seq + 1 RETURNING id, last_seq",
        [LEDGER],
    )
    shard, seq = cursor.fetchone()
    return Position(int(shard), int(seq))
