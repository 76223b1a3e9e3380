"""The sealer: gathers every shard's new records into one tree and signs its head.

It runs under its own uid with its own key and a database role that can read records and add checkpoints, nothing else.
It hashes each record again before sealing it: a row edited before its first seal is refused, not signed. A file beside
its key remembers the largest checkpoint, so that a database put back to yesterday is noticed (SECURITY.md T33).
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import Connection, sql

from appliance.audit import chain, checkpoint
from appliance.audit.chain import StoredRow
from appliance.audit.checkpoint import Checkpoint
from appliance.audit.errors import AuditError
from appliance.audit.tree import Tree

_PER_SHARD = 20_000


class TamperedError(AuditError):
    """The database disagrees with what was sealed before, or a row with its own hash. Nothing more is sealed."""


@dataclass
class Sealer:
    """One run of the sealer over one connection; `open` reads where the last run stopped."""

    connection: Connection[tuple[object, ...]]
    key: Ed25519PrivateKey
    origin: str
    memory: Path
    tree: Tree
    sealed: dict[int, int]

    @classmethod
    def open(
        cls, connection: Connection[tuple[object, ...]], *, key: Ed25519PrivateKey, origin: str, memory: Path
    ) -> Sealer:
        """Load the last checkpoint and hold it against the sealer's own memory; TamperedError when they disagree."""
        row = connection.execute("SELECT size, edge, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        tree = Tree()
        if row is not None:
            tree = Tree.load(int(str(row[0])), _bytes(row[1]))
            head = checkpoint.open_note(str(row[2]), key.public_key())
            if (head.size, head.root) != (tree.size, tree.root()):
                raise TamperedError(f"the checkpoint of size {tree.size} does not match its own signature")
        sealer = cls(connection, key, origin, memory, tree, {})
        sealer._check_memory()
        rows = connection.execute("SELECT shard, max(last_seq) FROM audit_segment GROUP BY shard").fetchall()
        sealer.sealed = {int(str(shard)): int(str(last)) for shard, last in rows}
        return sealer

    def step(self) -> int:
        """Seal everything new and return how many records that was; 0 means the head is current."""
        self._check_memory()
        fresh = list(self._new_rows())
        if not fresh:
            return 0
        grown = Tree(self.tree.size, list(self.tree.edge))
        sealed = dict(self.sealed)
        segments: list[tuple[int, int, int, int]] = []
        for shard, rows in itertools.groupby(fresh, key=lambda row: row.position.shard):
            run = _contiguous(list(rows), sealed.get(shard, 0))
            if not run:
                continue
            segments.append((grown.size, shard, run[0].position.seq, run[-1].position.seq))
            for row in run:
                grown.append(row.stored_leaf)
            sealed[shard] = run[-1].position.seq
        if grown.size == self.tree.size:
            return 0
        note = checkpoint.sign(Checkpoint(self.origin, grown.size, grown.root()), self.key)
        self._store(grown, segments, note)
        count = grown.size - self.tree.size
        self.tree, self.sealed = grown, sealed
        self._remember(note)
        return count

    def _new_rows(self) -> list[StoredRow]:
        shards = [int(str(row[0])) for row in self.connection.execute("SELECT id FROM audit_shard").fetchall()]
        if not shards:
            return []
        ends = [self.sealed.get(shard, 0) for shard in shards]
        query = sql.SQL(
            "COPY (SELECT {columns} FROM unnest({shards}::bigint[], {ends}::bigint[]) AS s(id, sealed) JOIN LATERAL "
            "(SELECT * FROM audit_record a WHERE a.shard = s.id AND a.seq > s.sealed ORDER BY a.seq LIMIT {most}) r "
            "ON true "
            "ORDER BY r.shard, r.seq) TO STDOUT (FORMAT BINARY)"
        ).format(
            columns=sql.SQL(chain.READ_COLUMNS),
            shards=sql.Literal(shards),
            ends=sql.Literal(ends),
            most=sql.Literal(_PER_SHARD),
        )
        with self.connection.cursor() as cursor, cursor.copy(query) as copy:
            return list(chain.read_rows(copy))

    def _store(self, tree: Tree, segments: list[tuple[int, int, int, int]], note: str) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO audit_segment (tree_start, shard, first_seq, last_seq) VALUES (%s, %s, %s, %s)", segments
            )
            cursor.execute(
                "INSERT INTO audit_checkpoint (size, root, edge, note, at) VALUES (%s, %s, %s, %s, %s)",
                [tree.size, tree.root(), tree.dump(), note, datetime.now(UTC)],
            )

    def _check_memory(self) -> None:
        """Refuse to go on over a database that knows less, or other, than we signed."""
        if not self.memory.exists():
            return
        seen = checkpoint.open_note(self.memory.read_text(encoding="utf-8"), self.key.public_key())
        if seen.size > self.tree.size:
            raise TamperedError(f"we signed {seen.size} records; the database now has a head of {self.tree.size}")
        if seen.size == self.tree.size and seen.root != self.tree.root():
            raise TamperedError(f"the head of size {seen.size} is not the one we signed")

    def _remember(self, note: str) -> None:
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.memory.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.memory)


def connect(conninfo: str) -> Connection[tuple[object, ...]]:
    """The sealer's connection: autocommit, so that no read holds an old view of the log."""
    return psycopg.connect(conninfo, autocommit=True, connect_timeout=3)


def _contiguous(rows: list[StoredRow], after: int) -> list[StoredRow]:
    """The rows that follow without a gap; a later one waits for the commit before it."""
    run: list[StoredRow] = []
    for row in rows:
        if row.position.seq != after + 1:
            break
        if not row.intact:
            raise TamperedError(f"record {row.position.shard}/{row.position.seq} does not match its own hash")
        run.append(row)
        after += 1
    return run


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    raise TamperedError("a stored hash is not bytes")
