"""The log: gapless, sealed, and every way of changing it found."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import transaction

from appliance.audit import chain, checkpoint, sealer, selectors, services, verifier
from appliance.audit.actions import Action
from appliance.audit.channel import Channel
from appliance.audit.checkpoint import Checkpoint
from appliance.audit.commit import Commits
from appliance.audit.entry import Entry, Position
from appliance.audit.errors import AuditUnavailableError, EntryError, NoteError
from appliance.audit.tree import EMPTY_ROOT, Tree, node

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
ORIGIN = "isoward/test"


def entry(text: str = "x", **more: object) -> Entry:
    """A small record."""
    values: dict[str, object] = {
        "at_us": 1,
        "kind": "intent",
        "action": text,
        "actor": "ward-7",
        "outcome": "ok",
        **more,
    }
    return Entry(**values)  # type: ignore[arg-type]  # test values


def conninfo() -> str:
    """The owner's connection: it can do what a rogue DBA could."""
    return settings.SITE.postgres.conninfo(settings.SITE.postgres.owner_role)


@pytest.fixture
def log(transactional_db: None, tmp_path: Path) -> Iterator[Log]:
    with psycopg.connect(conninfo(), autocommit=True) as conn:
        # An API process that another test started may have written its last outcome after that test was cleaned up.
        conn.execute("TRUNCATE audit_record, audit_shard, audit_segment, audit_checkpoint")
        yield Log(conn, tmp_path / "memory")


class Log:
    """A log with its sealer, in a real database."""

    def __init__(self, conn: psycopg.Connection[tuple[object, ...]], memory: Path) -> None:
        self.conn, self.memory = conn, memory

    def write(self, count: int) -> None:
        self.put(*(entry(f"act {i}") for i in range(count)))

    def put(self, *entries: Entry) -> None:
        """Records through one channel."""

        async def run() -> None:
            channel = await Channel.open(conninfo(), writer="test")
            await asyncio.gather(*map(channel.put, entries))
            await channel.close()

        asyncio.run(run())

    def seal(self) -> int:
        """One step of a fresh sealer."""
        return sealer.Sealer.open(self.conn, key=KEY, origin=ORIGIN, memory=self.memory).step()

    def verify(self) -> verifier.Report:
        """The whole log."""
        return verifier.verify(self.conn, public=KEY.public_key(), origin=ORIGIN, memory=self.memory)


def test_the_tree_matches_the_definition_of_rfc_6962() -> None:
    def reference(leaves: list[bytes]) -> bytes:
        if not leaves:
            return EMPTY_ROOT
        if len(leaves) == 1:
            return leaves[0]
        split = 1 << (len(leaves) - 1).bit_length() - 1
        return node(reference(leaves[:split]), reference(leaves[split:]))

    leaves = [chain.leaf(bytes([i])) for i in range(70)]
    tree = Tree()
    for i, leaf in enumerate(leaves):
        assert tree.root() == reference(leaves[:i])
        tree.append(leaf)
        assert Tree.load(tree.size, tree.dump()).root() == tree.root()
    with pytest.raises(ValueError, match="not the edge"):
        Tree.load(5, tree.dump())


def test_a_note_is_accepted_whole_and_refused_when_anything_moved() -> None:
    note = checkpoint.sign(Checkpoint(ORIGIN, 7, b"r" * 32), KEY)
    assert checkpoint.open_note(note, KEY.public_key()) == Checkpoint(ORIGIN, 7, b"r" * 32)
    other = Ed25519PrivateKey.generate()
    for bad in (
        note.replace("\n7\n", "\n8\n"),
        note.replace("\n7\n", "\n07\n"),
        note.replace("\n\n", "\nmore\n\n"),
        "x",
        "",
    ):
        with pytest.raises(NoteError):
            checkpoint.open_note(bad, KEY.public_key())
    with pytest.raises(NoteError):
        checkpoint.open_note(note, other.public_key())


def test_the_hashed_bytes_are_the_stored_bytes(log: Log) -> None:
    log.write(3)
    with (
        log.conn.cursor() as cursor,
        cursor.copy(
            f"COPY (SELECT {chain.READ_COLUMNS} FROM audit_record r ORDER BY 1, 2) TO STDOUT (FORMAT BINARY)"  # noqa: S608 - our own columns
        ) as copy,
    ):
        rows = list(chain.read_rows(copy))
    assert [row.position.seq for row in rows] == [1, 2, 3]
    assert all(row.intact for row in rows)


def test_a_record_that_rolls_back_leaves_no_gap(transactional_db: None) -> None:
    with pytest.raises(RuntimeError, match="outside a transaction"):
        services.record(actor="a", action=Action.REFUSED)
    with transaction.atomic():
        first = services.record(actor="a", action=Action.REFUSED)
    with transaction.atomic():
        services.record(actor="b", action=Action.REFUSED)
        transaction.set_rollback(True)
    with transaction.atomic():
        second = services.record(actor="c", action=Action.REFUSED)
    assert second == Position(first.shard, first.seq + 1)


def test_a_refusal_inside_the_refused_transaction_is_a_bug(transactional_db: None) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        services.refuse(actor="a", outcome="no")
    assert services.refuse(actor="a", outcome="no").seq == 1


def test_an_entry_refuses_what_the_database_would() -> None:
    with pytest.raises(EntryError):
        entry("a\x00b")
    with pytest.raises(EntryError):
        entry(input_tokens=-1)
    with pytest.raises(EntryError):
        entry(kind="else")


def test_a_log_that_nobody_touched_verifies_over_several_seals(log: Log) -> None:
    for count in (1, 5, 30):
        log.write(count)
        assert log.seal() == count
    log.write(2)
    report = log.verify()
    assert (report.ok, report.size, report.unsealed, report.checkpoints) == (True, 36, 2, 3)


MUTATIONS = {
    "one byte edited": "UPDATE audit_record SET actor = 'ward-8' WHERE seq = 4",
    "only the time edited": "UPDATE audit_record SET at_us = at_us + 1 WHERE seq = 4",
    "a look-alike letter": "UPDATE audit_record SET actor = 'w\u0430rd-7' WHERE seq = 4",
    "a row deleted": "DELETE FROM audit_record WHERE seq = 4",
    "the tail cut": "DELETE FROM audit_record WHERE seq > 6",
    "everything cut": "TRUNCATE audit_record",
    "two rows swapped": "UPDATE audit_record SET seq = CASE seq WHEN 4 THEN 1004 ELSE 1005 END WHERE seq IN (4, 5); "
    "UPDATE audit_record SET seq = CASE seq WHEN 1004 THEN 5 ELSE 4 END WHERE seq > 1000",
    "a checkpoint removed with its rows": "DELETE FROM audit_record WHERE seq > 5; "
    "DELETE FROM audit_segment WHERE tree_start >= 5; "
    "DELETE FROM audit_checkpoint WHERE size > 5",
    "a segment list shortened": "DELETE FROM audit_segment WHERE tree_start >= 5",
    "a note altered": "UPDATE audit_checkpoint SET note = replace(note, 'isoward/test', 'isoward/other')",
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_every_way_of_changing_the_log_is_found(log: Log, mutation: str) -> None:
    async def two_seals() -> None:
        channel = await Channel.open(conninfo(), writer="test")
        for count in (5, 5):
            await asyncio.gather(*(channel.put(entry(f"act {i}")) for i in range(count)))
            log.seal()
        await channel.close()

    asyncio.run(two_seals())
    assert log.verify().ok
    for statement in mutation.split("; "):
        log.conn.execute(statement)
    report = log.verify()
    assert not report.ok
    assert report.code.startswith("audit_")


def test_a_row_edited_together_with_its_hash_breaks_the_root(log: Log) -> None:
    log.write(8)
    log.seal()
    shard = log.conn.execute("SELECT shard FROM audit_record LIMIT 1").fetchone()[0]  # type: ignore[index]  # there is one
    log.conn.execute("DELETE FROM audit_record WHERE seq = 3")
    forged = chain.copy_bytes([chain.encode(Position(int(str(shard)), 3), entry("forged"))])
    with log.conn.cursor() as cursor, cursor.copy(chain.COPY_IN) as copy:
        copy.write(forged)
    assert log.verify().code == "audit_root"


def test_the_sealer_refuses_a_row_edited_before_its_first_seal_and_a_database_put_back(log: Log) -> None:
    log.write(4)
    log.conn.execute("UPDATE audit_record SET actor = 'other' WHERE seq = 2")
    with pytest.raises(sealer.TamperedError, match="its own hash"):
        log.seal()
    log.conn.execute("UPDATE audit_record SET actor = 'ward-7' WHERE seq = 2")
    assert log.seal() == 4
    for table in ("audit_record", "audit_segment", "audit_checkpoint"):
        log.conn.execute(f"TRUNCATE {table}")
    with pytest.raises(sealer.TamperedError, match="we signed 4 records"):
        log.seal()


def test_application_roles_can_add_and_read_records_and_nothing_more(transactional_db: None) -> None:
    with transaction.atomic():
        services.record(actor="a", action=Action.REFUSED)
    role = settings.SITE.postgres.app_role
    for statement in (
        "UPDATE audit_record SET actor = 'b'",
        "DELETE FROM audit_record",
        "TRUNCATE audit_record",
        "DROP TABLE audit_record",
        "ALTER TABLE audit_record DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "DELETE FROM audit_checkpoint",
        "INSERT INTO audit_checkpoint (size, root, edge, note, at) VALUES (1, '', '', '', now())",
    ):
        with psycopg.connect(settings.SITE.postgres.conninfo(role), autocommit=True) as conn:
            assert conn.execute("SELECT count(*) FROM audit_record").fetchone() == (1,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement)


def test_a_channel_writes_groups_without_gaps_and_opens_a_new_shard_after_a_loss(log: Log) -> None:
    async def run() -> list[Position]:
        channel = await Channel.open(conninfo(), writer="test")
        before = await asyncio.gather(*(channel.put(entry()) for _ in range(50)))
        log.conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'audit test'")
        kept = await asyncio.wait_for(channel.put(entry("outcome", kind="outcome"), keep=True), 15)
        await channel.close()
        return [*before, kept]

    positions = asyncio.run(run())
    assert [p.seq for p in positions[:50]] == list(range(1, 51))
    assert (positions[50].shard > positions[0].shard, positions[50].seq) == (True, 1)
    log.seal()
    assert log.verify().ok


def test_a_channel_opened_while_the_database_is_away_connects_when_it_is_back(log: Log, tmp_path: Path) -> None:
    async def run() -> None:
        channel = await Channel.open(f"host={tmp_path}", writer="test")  # where no server listens
        with pytest.raises(AuditUnavailableError):
            await channel.put(entry())
        channel._conninfo = conninfo()
        async with asyncio.timeout(15):
            while not channel.available:  # noqa: ASYNC110 - it says so in no other way
                await asyncio.sleep(0.05)
        await channel.put(entry())
        await channel.close()

    asyncio.run(run())


def test_an_outcome_whose_commit_was_not_answered_is_not_written_twice(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> Position:
        channel = await Channel.open(conninfo(), writer="test")
        assert channel._commits is not None
        monkeypatch.setattr(channel._commits, "rows", partial(committed_unanswered, channel._commits))
        connect, refused = channel._connect, iter([psycopg.OperationalError("the database system is starting up")])

        async def not_at_once() -> Any:
            for error in refused:
                raise error
            return await connect()

        monkeypatch.setattr(channel, "_connect", not_at_once)
        position = await asyncio.wait_for(channel.put(entry("outcome", kind="outcome"), keep=True), 15)
        await channel.close()
        return position

    position = asyncio.run(run())
    assert log.conn.execute("SELECT shard, seq FROM audit_record").fetchall() == [tuple(position)]


def test_a_lost_connections_number_that_somebody_else_has_by_now_is_left_alone(log: Log) -> None:
    """libpq closes the socket of a lost connection by itself, and the next socket of the process gets its number."""

    async def run() -> None:
        channel = await Channel.open(conninfo(), writer="test")
        commits = channel._commits
        assert commits is not None
        log.conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'audit test'")
        async with asyncio.timeout(15):
            while commits._failure is None:  # noqa: ASYNC110 - it says so in no other way
                await asyncio.sleep(0.01)
        pairs = [socket.socketpair() for _ in range(64)]
        ours, other = next(pair for pair in pairs if pair[0].fileno() == commits._socket)
        heard = asyncio.Event()
        asyncio.get_running_loop().add_reader(ours.fileno(), heard.set)
        await channel.put(entry("outcome", kind="outcome"), keep=True)
        other.send(b"x")
        await asyncio.wait_for(heard.wait(), 5)
        asyncio.get_running_loop().remove_reader(ours.fileno())
        await channel.close()
        for one, two in pairs:
            one.close()
            two.close()

    asyncio.run(run())


async def committed_unanswered(commits: Commits, rows: list[list[bytes]]) -> None:
    """What a server killed between its commit and its answer looks like."""
    await Commits.rows(commits, rows)
    raise psycopg.OperationalError("server closed the connection unexpectedly")


def test_the_head_says_what_is_sealed_and_what_waits(log: Log) -> None:
    assert selectors.head().size == 0
    log.write(3)
    log.seal()
    assert (selectors.head().size, selectors.head().unsealed, selectors.head().oldest_unsealed_at) == (3, 0, None)
    log.write(2)
    head = selectors.head()
    assert (head.size, head.unsealed) == (3, 2)
    assert head.oldest_unsealed_at is not None


def test_a_search_pages_from_the_newest_and_narrows(log: Log) -> None:
    log.write(5)
    first = selectors.search(selectors.Query(), limit=3)
    last = first[-1]
    before = (int(last.at.timestamp() * 1_000_000), last.shard, last.seq)
    rest = selectors.search(selectors.Query(before=before), limit=3)
    assert [row.seq for row in (*first, *rest)] == [5, 4, 3, 2, 1]
    assert [row.action for row in selectors.search(selectors.Query(action="act 2"))] == ["act 2"]
    assert selectors.search(selectors.Query(actor="nobody")) == ()


def test_what_a_client_did_and_what_others_did_about_it_is_one_list(log: Log) -> None:
    actors = ("app-7", "erin", "app-7", "app-8", "erin")
    log.put(*(entry(f"act {i}", actor=a, client="app-8" if a == "app-8" else "app-7") for i, a in enumerate(actors)))
    found = selectors.search(selectors.Query(client="app-7"), limit=3)
    assert [(row.actor, row.action) for row in found] == [("erin", "act 4"), ("app-7", "act 2"), ("erin", "act 1")]


def test_a_number_taken_by_somebody_else_is_never_mistaken_for_our_own_record(log: Log) -> None:
    async def run() -> Position:
        channel = await Channel.open(conninfo(), writer="test")
        stolen = chain.copy_bytes([chain.encode(Position(channel._shard, 1), entry("stolen"))])
        with log.conn.cursor() as cursor, cursor.copy(chain.COPY_IN) as copy:
            copy.write(stolen)
        with pytest.raises(AuditUnavailableError):
            await channel.put(entry("ours"))
        after = await channel.put(entry("ours again"))
        await channel.close()
        return after

    position = asyncio.run(run())
    rows = log.conn.execute("SELECT action FROM audit_record WHERE shard = %s", [position.shard]).fetchall()
    assert rows == [("ours again",)]


def test_a_record_knows_its_place_in_the_tree_once_a_signed_head_covers_it(log: Log) -> None:
    log.write(3)
    (shard,) = {row.shard for row in selectors.search(selectors.Query())}
    assert selectors.sealed_index(shard=shard, seq=1) is None
    log.seal()
    log.write(2)  # another channel, so another shard
    log.seal()
    (later,) = {row.shard for row in selectors.search(selectors.Query())} - {shard}
    assert [selectors.sealed_index(shard=shard, seq=seq) for seq in (1, 2, 3, 4)] == [0, 1, 2, None]
    assert [selectors.sealed_index(shard=later, seq=seq) for seq in (1, 2, 3)] == [3, 4, None]
