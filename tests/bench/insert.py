"""`python -m tests.bench.insert CONNINFO ROUNDS`: the median time of one INSERT with its commit, in microseconds.

The row is an intent of the audit log, with the log's own columns, constraints and indexes; the statement is prepared
and the connection kept: the cheapest way to make one row durable with one commit.
"""

from __future__ import annotations

import sys
import time

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Placeholder

from appliance.audit import chain
from appliance.audit.entry import FIELDS, Entry, now_us

DIGEST = "0123456789abcdef" * 4


def main(conninfo: str, rounds: int) -> None:
    columns = (*chain.COLUMNS, "leaf")
    insert = SQL("INSERT INTO bench_insert ({}) VALUES ({})").format(
        SQL(", ").join(map(Identifier, columns)), SQL(", ").join(Placeholder() * len(columns))
    )
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS bench_insert")
        connection.execute("CREATE TABLE bench_insert (LIKE audit_record INCLUDING ALL)")
        taken = sorted(_one(connection, insert, number) for number in range(1, rounds + 1))
        connection.execute("DROP TABLE bench_insert")
    sys.stdout.write(f"{1e6 * taken[rounds // 2]:.1f}\n")


def _one(connection: psycopg.Connection[tuple[object, ...]], insert: Composed, number: int) -> float:
    entry = _entry(number)
    row = (1, number, *(getattr(entry, name) for name in FIELDS), bytes(32))
    began = time.perf_counter()
    connection.execute(insert, row, prepare=True)
    return time.perf_counter() - began


def _entry(number: int) -> Entry:
    return Entry(
        at_us=now_us(),
        kind="intent",
        action="inference.requested",
        actor="bench",
        outcome="started",
        target="progress_note",
        request_id=f"req_{number:024x}",
        client="bench",
        key_id="key_1",
        purpose="TREAT",
        task="progress_note",
        data_class="phi",
        model="m-0123456789ab",
        release=DIGEST,
        change_id=1,
        prompt_hmac=DIGEST,
        hmac_key="audit-hmac",
        detail='{"dropped": [], "lane": "interactive"}',
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
