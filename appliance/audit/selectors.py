"""Reading the log: its head, a search with keyset paging, one record, and the records behind one request."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings
from django.db import connection
from django.db.models import Count, F, QuerySet

from appliance.audit import checkpoint, verifier
from appliance.audit.actions import Action
from appliance.audit.errors import AuditError
from appliance.audit.models import Record, Segment
from appliance.audit.sealer import connect

# From each shard's sealed end onwards by the primary key, and no further than a page has words for: over a year of
# records the planner would otherwise rather read them all than believe that next to none is unsealed.
_MOST_UNSEALED = 100_000
_HEAD = """
    SELECT newer.number, newer.oldest, last.size, last.root, last.note, last.at FROM (
        SELECT count(*) AS number, min(r.at_us) AS oldest FROM (
            SELECT s.id, coalesce((SELECT max(g.last_seq) FROM audit_segment g WHERE g.shard = s.id), 0) AS sealed
            FROM audit_shard s
        ) ends CROSS JOIN LATERAL (
            SELECT at_us FROM audit_record WHERE shard = ends.id AND seq > ends.sealed ORDER BY seq LIMIT %s
        ) r
    ) newer LEFT JOIN LATERAL (SELECT size, root, note, at FROM audit_checkpoint ORDER BY size DESC LIMIT 1) last ON true
"""
_KEY = ("at_us", "shard", "seq")


@dataclass(frozen=True)
class Head:
    """The last signed checkpoint, and what has come since."""

    size: int
    root: str
    at: datetime | None
    note: str
    unsealed: int
    oldest_unsealed_at: datetime | None


@dataclass(frozen=True)
class Row:
    """A record as a page shows it."""

    shard: int
    seq: int
    at: datetime
    kind: str
    action: str
    actor: str
    outcome: str
    target: str
    request_id: str
    client: str
    end_user: str
    purpose: str
    task: str
    data_class: str
    model: str
    release: str
    change_id: int
    prompt_hmac: str
    answer_hmac: str
    patient_tag: str
    hmac_key: str
    input_tokens: int
    output_tokens: int
    detail: str
    leaf: str


@dataclass(frozen=True)
class Query:
    """What to look for; empty fields do not narrow. `before` is the key of the last row of the page before."""

    actor: str = ""
    action: str = ""
    request_id: str = ""
    client: str = ""
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[int, int, int] | None = None
    rising: bool = False
    """The oldest first; `before` is then the key to go on after."""

    def facts(self) -> Mapping[str, str]:
        """The query as it is written into the record of the reading."""
        text = {
            "actor": self.actor,
            "action": self.action,
            "request_id": self.request_id,
            "client": self.client,
            "kind": self.kind,
        }
        return {key: value for key, value in text.items() if value}


def search(query: Query, *, limit: int = 50) -> tuple[Row, ...]:
    """The records that match, newest first unless asked otherwise; page with `before` (at_us, shard, seq) of the last row."""
    narrowed = _narrowed(query)
    if not query.client or query.actor:
        return tuple(_row(record) for record in narrowed[:limit])
    # A client's own records are found under its name as the actor, what others did about it beside them: each half has
    # an index that gives it in order, the whole would need one more on every record.
    halves = (narrowed.filter(actor=query.client), narrowed.exclude(client=F("actor")))
    found = [record for half in halves for record in half[:limit]]
    found.sort(key=attrgetter(*_KEY), reverse=not query.rising)
    return tuple(_row(record) for record in found[:limit])


def _narrowed(query: Query) -> QuerySet[Record]:
    rows: QuerySet[Record] = Record.objects.filter(**query.facts())
    rows = rows.order_by(*(_KEY if query.rising else [f"-{name}" for name in _KEY]))
    if query.since:
        rows = rows.filter(at_us__gte=_us(query.since))
    if query.until:
        rows = rows.filter(at_us__lt=_us(query.until))
    if query.before:
        beyond = "(at_us, shard, seq) > (%s, %s, %s)" if query.rising else "(at_us, shard, seq) < (%s, %s, %s)"
        rows = rows.extra(where=[beyond], params=list(query.before))  # noqa: S610 - one of the two literals above
    return rows


def entry(*, shard: int, seq: int) -> Row | None:
    """One record, or None."""
    record = Record.objects.filter(shard=shard, seq=seq).first()
    return _row(record) if record else None


def of_request(request_id: str) -> tuple[Row, ...]:
    """Everything recorded about one request, oldest first."""
    return tuple(
        _row(record) for record in Record.objects.filter(request_id=request_id).order_by("at_us", "shard", "seq")
    )


def requests_with(action: Action, request_ids: Collection[str]) -> frozenset[str]:
    """Those of the requests that have a record of this kind of act."""
    found = Record.objects.filter(request_id__in=request_ids, action=action.value)
    return frozenset(found.values_list("request_id", flat=True))


def sealed_index(*, shard: int, seq: int) -> int | None:
    """A record's place in the tree of the last checkpoint; None while no signed head covers it."""
    run = Segment.objects.filter(shard=shard, first_seq__lte=seq).order_by("-first_seq").first()
    if run is None or run.last_seq < seq:
        return None
    return run.tree_start + seq - run.first_seq


def counts(*, since: datetime) -> Mapping[tuple[str, str], int]:
    """How many records of each (action, outcome) came since then: figures for a page, not a reading of any record."""
    found = Record.objects.filter(at_us__gte=_us(since)).values_list("action", "outcome").annotate(number=Count("seq"))
    return {(action, outcome): number for action, outcome, number in found}


def counted(*, action: Action, since: datetime) -> Mapping[str, int]:
    """How often each client did this since then. One record may stand for many: its detail says for how many."""
    rows = Record.objects.filter(action=action.value, at_us__gte=_us(since)).values_list("client", "detail")
    found: Counter[str] = Counter()
    for client, detail in rows:
        found[client] += int(json.loads(detail).get("count", 1))
    return found


def head() -> Head:
    """The last checkpoint; size 0 when nothing was sealed yet."""
    with connection.cursor() as cursor:
        cursor.execute(_HEAD, [_MOST_UNSEALED])
        unsealed, oldest, size, root, note, at = cursor.fetchone()
    return Head(
        size=size or 0,
        root=bytes(root).hex() if root else "",
        at=at,
        note=note or "",
        unsealed=unsealed,
        oldest_unsealed_at=_time(oldest) if oldest else None,
    )


def verify() -> verifier.Report:
    """Verify the whole log now, on a connection of its own."""
    with connect(settings.SITE.postgres.conninfo(settings.DB_ROLE)) as own:
        return verifier.verify(own, public=sealer_public_key(), origin=origin(), memory=sealer_memory())


def origin() -> str:
    """The log's name in its checkpoints."""
    return checkpoint.origin(settings.SITE.serial)


def sealer_memory() -> Path:
    """The sealer's own note of the largest checkpoint it signed."""
    return Path(settings.SITE.state_dir) / "sealer" / "checkpoint"


def sealer_private_key() -> Ed25519PrivateKey:
    """The sealer's key; only the sealer's uid can read the file."""
    key = load_pem_private_key(settings.SITE.secret("sealer-key"), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditError("the sealer's key is not Ed25519")
    return key


def sealer_public_key() -> Ed25519PublicKey:
    """The key auditors verify with; published beside the sealer's memory when the sealer starts."""
    path = sealer_memory().with_name("public-key")
    if not path.is_file():
        raise AuditError("the sealer has not published its public key yet; start the sealer")
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(path.read_text(encoding="ascii").strip()))


def _us(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _time(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, tz=UTC)


def _row(record: Record) -> Row:
    values: dict[str, Any] = {
        name: getattr(record, name) for name in Row.__dataclass_fields__ if name not in {"at", "leaf"}
    }
    return Row(at=_time(record.at_us), leaf=bytes(record.leaf).hex(), **values)
