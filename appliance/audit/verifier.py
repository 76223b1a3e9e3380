"""Is the log whole? Reads every record again and holds it against every signed head.

It trusts nothing in the database but the order the segments claim, and that claim is proved by the roots: a record
edited, removed, added, moved or repeated before the last checkpoint changes a root, and the first record that does not
fit is named. Records after the last checkpoint are checked for gaps and for their own hashes, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from psycopg import Connection, sql

from appliance.audit import chain, checkpoint
from appliance.audit.chain import StoredRow
from appliance.audit.checkpoint import Checkpoint
from appliance.audit.entry import Position
from appliance.audit.errors import NoteError
from appliance.audit.tree import Tree


@dataclass(frozen=True)
class Report:
    """What the verification found; `ok` only when nothing at all is wrong."""

    size: int = 0
    unsealed: int = 0
    checkpoints: int = 0
    code: str = ""
    message: str = ""
    first_bad: Position | None = None

    @property
    def ok(self) -> bool:
        """Nothing is missing, altered, added or moved."""
        return self.code == ""

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        bad = None if self.first_bad is None else {"shard": self.first_bad.shard, "seq": self.first_bad.seq}
        return {
            "ok": self.ok,
            "sealed": self.size,
            "unsealed": self.unsealed,
            "checkpoints": self.checkpoints,
            "code": self.code,
            "message": self.message,
            "first_bad": bad,
        }


class _BadError(Exception):
    def __init__(self, code: str, message: str, at: Position | None = None) -> None:
        super().__init__(message)
        self.code, self.at = code, at


@dataclass
class _Walk:
    """The state of one verification."""

    connection: Connection[tuple[object, ...]]
    heads: list[Checkpoint]
    tree: Tree
    next_head: int = 0

    def sealed(self) -> None:
        """Walk the tree in the order of the segments, and compare the root at every head."""
        rows = iter(
            self._rows(
                "JOIN audit_segment g ON r.shard = g.shard AND r.seq BETWEEN g.first_seq AND g.last_seq "
                "ORDER BY g.tree_start, r.seq"
            )
        )
        for expected in self._expected():
            row = _checked(next(rows, None), expected)
            self.tree.append(row.stored_leaf)
            self._compare(expected)
        if (extra := next(rows, None)) is not None:
            raise _BadError("audit_extra", "a record appears twice in the sealed part", extra.position)
        if self.next_head < len(self.heads):
            raise _BadError(
                "audit_missing", f"a signed head covers {self.heads[-1].size} records; {self.tree.size} are listed"
            )

    def tail(self) -> int:
        """Count the records after the last head; each shard must go on without a gap and hash to its leaves."""
        last: dict[int, int] = {
            int(str(shard)): int(str(seq))
            for shard, seq in self.connection.execute(
                "SELECT shard, max(last_seq) FROM audit_segment GROUP BY shard"
            ).fetchall()
        }
        count = 0
        for row in self._rows(
            "LEFT JOIN (SELECT shard, max(last_seq) AS sealed FROM audit_segment GROUP BY shard) g "
            "ON g.shard = r.shard "
            "WHERE r.seq > coalesce(g.sealed, 0) ORDER BY r.shard, r.seq"
        ):
            expected = Position(row.position.shard, last.get(row.position.shard, 0) + 1)
            _checked(row, expected)
            last[expected.shard] = expected.seq
            count += 1
        return count

    def _compare(self, at: Position) -> None:
        if self.next_head >= len(self.heads) or self.heads[self.next_head].size != self.tree.size:
            return
        if self.heads[self.next_head].root != self.tree.root():
            first = self.heads[self.next_head - 1].size if self.next_head else 0
            text = f"records {first} to {self.tree.size - 1} of the tree are not the ones that were sealed"
            raise _BadError("audit_root", text, at)
        self.next_head += 1

    def _expected(self) -> Iterator[Position]:
        size = 0
        query = "SELECT tree_start, shard, first_seq, last_seq FROM audit_segment ORDER BY tree_start"
        for start, shard, first, last in self.connection.execute(query).fetchall():
            if int(str(start)) != size:
                raise _BadError("audit_segments", f"the list of segments has a gap at {size}")
            for seq in range(int(str(first)), int(str(last)) + 1):
                yield Position(int(str(shard)), seq)
            size += int(str(last)) - int(str(first)) + 1

    def _rows(self, how: str) -> Iterator[StoredRow]:
        query = sql.SQL("COPY (SELECT {columns} FROM audit_record r {how}) TO STDOUT (FORMAT BINARY)").format(
            columns=sql.SQL(chain.READ_COLUMNS),
            how=sql.SQL(how),
        )
        with self.connection.cursor() as cursor, cursor.copy(query) as copy:
            yield from chain.read_rows(copy)


def _checked(row: StoredRow | None, expected: Position) -> StoredRow:
    name = f"record {expected.shard}/{expected.seq}"
    if row is None or row.position != expected:
        raise _BadError("audit_missing", f"{name} is missing or out of its place", expected)
    if not row.intact:
        raise _BadError("audit_altered", f"{name} does not match its own hash", expected)
    return row


def verify(
    connection: Connection[tuple[object, ...]], *, public: Ed25519PublicKey, origin: str, memory: Path
) -> Report:
    """Verify the whole log in one consistent view; `memory` is the sealer's own note of the largest head."""
    # Read before the view is taken: the sealer writes to the database first, so what it remembers now is in the view. Read
    # afterwards, a head that was sealed in between would look like a database that was put back.
    seen = _memory(memory)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        heads: list[Checkpoint] = []
        walk = _Walk(connection, heads, Tree())
        try:
            heads += _heads(connection, public, origin)
            _check_memory(heads, public, seen)
            walk.sealed()
            unsealed = walk.tail()
        except _BadError as bad:
            return Report(walk.tree.size, 0, walk.next_head, bad.code, str(bad), bad.at)
    return Report(walk.tree.size, unsealed, len(heads))


def _heads(connection: Connection[tuple[object, ...]], public: Ed25519PublicKey, origin: str) -> list[Checkpoint]:
    heads: list[Checkpoint] = []
    for (note,) in connection.execute("SELECT note FROM audit_checkpoint ORDER BY size").fetchall():
        try:
            head = checkpoint.open_note(str(note), public)
        except NoteError as error:
            raise _BadError("audit_signature", f"a checkpoint is not signed by this box: {error}") from error
        if head.origin != origin or (heads and head.size <= heads[-1].size):
            raise _BadError("audit_signature", f"the checkpoint of size {head.size} belongs elsewhere")
        heads.append(head)
    return heads


def _memory(path: Path) -> str | None:
    """The sealer's own note of its largest head; None when there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _check_memory(heads: list[Checkpoint], public: Ed25519PublicKey, memory: str | None) -> None:
    if memory is None:
        if heads:
            raise _BadError("audit_memory", "the sealer's own note of the last checkpoint is gone")
        return
    try:
        seen = checkpoint.open_note(memory, public)
    except NoteError as error:
        raise _BadError("audit_memory", "the sealer's own note is not signed by its key") from error
    if not any((head.size, head.root) == (seen.size, seen.root) for head in heads):
        raise _BadError(
            "audit_rolled_back", f"the sealer signed {seen.size} records; the database does not have that head"
        )
