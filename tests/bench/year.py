"""A year of a hospital in the rows of one box: what `make bench-console` draws its pages over.

Decides: how much there is of each kind and how it lies in time. Rows are written as the services leave them, by COPY and
bulk inserts and not through the services: ten million requests would take a day. The log's leaves are not hashes of
their records; nothing here verifies the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.utils import timezone
from psycopg.types.json import Jsonb

from appliance.accounts.models import Person
from appliance.alerts.models import Alert
from appliance.audit.entry import FIELDS, NUMBER_FIELDS
from inference.telemetry.models import Gpu
from tests.bench.site import Appliance

SHARD = 900
PEOPLE = 60
CARDS = 8
_AT_ONCE = 500_000

# Of a hundred requests: 90 answered, 4 cut by their callers, 4 refused before the engine, 2 failed.
_RECORDS = """
INSERT INTO audit_record ({columns})
SELECT {values}
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
CROSS JOIN LATERAL (SELECT (n + 1) / 2 AS request, n %% 2 = 1 AS first_of_two) AS r
"""
_VALUES = {
    "shard": str(SHARD),
    "seq": "n",
    "at_us": "%(began)s::bigint + (n * %(step)s)::bigint",
    "kind": "CASE WHEN first_of_two THEN 'intent' ELSE 'outcome' END",
    "action": "'inference.answered'",
    "actor": "'app-' || (request %% %(clients)s)",
    "outcome": "CASE WHEN first_of_two THEN '' WHEN request %% 50 = 0 THEN 'engine_timeout'"
    " WHEN request %% 25 = 1 THEN 'client_gone' ELSE 'ok' END",
    "request_id": "'req_' || lpad(to_hex(request), 24, '0')",
    "client": "'app-' || (request %% %(clients)s)",
    "key_id": "'iwk_' || lpad(to_hex(request %% %(clients)s), 8, '0')",
    "end_user": "'user-' || (request %% 900)",
    "purpose": "'TREAT'",
    "task": "(ARRAY['progress_note','prior_authorization','patient_message','visit_summary'])[1 + request %% 4]",
    "data_class": "'phi'",
    "model": "'default'",
    "release": "repeat('a', 64)",
    "change_id": "1",
    "prompt_hmac": "md5(request::text)",
    "hmac_key": "'k1'",
    "input_tokens": "200 + request %% 700",
    "output_tokens": "CASE WHEN first_of_two THEN 0 ELSE 20 + request %% 300 END",
    "detail": "'{}'",
}


@dataclass(frozen=True)
class Size:
    """How much of a year: the issue's own figures, or less for a quick look."""

    requests: int = 10_000_000
    releases: int = 500
    clients: int = 300
    jobs: int = 50_000


def fill(running: Appliance, size: Size) -> None:
    """Everything; afterwards the planner knows what is there."""
    now = timezone.now()
    with psycopg.connect(running.owner, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        _records(connection, size, now)
        _samples(connection, now)
        _clients(connection, size)
        _releases(connection, size, now)
        _jobs(connection, size, now)
        _alerts(now)
        Person.objects.bulk_create(
            Person(username=f"person-{number}", display_name=f"Person {number}", roles=["viewer"], password="!")
            for number in range(PEOPLE)
        )
        connection.execute("VACUUM ANALYZE")


def _records(connection: psycopg.Connection[Any], size: Size, now: datetime) -> None:
    columns = ["shard", "seq", *FIELDS]
    values = [_VALUES.get(name, "0" if name in NUMBER_FIELDS else "''") for name in columns]
    statement = _RECORDS.format(
        columns=", ".join([*columns, "leaf"]), values=", ".join([*values, "sha256(n::text::bytea)"])
    )
    total = 2 * size.requests
    year_us = int(timedelta(days=365).total_seconds() * 1e6)
    given = {
        "began": int(now.timestamp() * 1e6) - year_us,
        "step": year_us / total,
        "clients": size.clients,
    }
    for first in range(1, total + 1, _AT_ONCE):
        last = min(total, first + _AT_ONCE - 1)
        connection.execute(statement, {**given, "first": first, "last": last})
    connection.execute(
        "INSERT INTO audit_shard (id, writer, opened_at, last_seq) VALUES (%s, 'bench', now(), %s)", [SHARD, total]
    )
    connection.execute("INSERT INTO audit_segment VALUES (0, %s, 1, %s)", [SHARD, total])
    connection.execute(
        "INSERT INTO audit_checkpoint (size, root, edge, note, at) VALUES (%s, sha256('r'), '', 'bench', now())",
        [total],
    )


def _samples(connection: psycopg.Connection[Any], now: datetime) -> None:
    """A day of raw readings of eight cards, one each second."""
    Gpu.objects.bulk_create(
        Gpu(
            uuid=f"GPU-{index:08d}", index=index, name="NVIDIA H100", pci=f"0000:{index:02x}:00.0",
            memory_total=85_899_345_920, first_seen=now - timedelta(days=365), last_seen=now,
        )
        for index in range(CARDS)
    )  # fmt: skip
    connection.execute(
        """
        INSERT INTO telemetry_sample (gpu_id, at, utilisation_percent, memory_used, temperature_c, power_mw)
        SELECT g.id, %s - (n || ' seconds')::interval, (n * 7) %% 100, 60000000000, 50 + n %% 20, 300000 + n %% 90000
        FROM telemetry_gpu g, generate_series(1, 86400) AS n
        """,
        [now],
    )


def _clients(connection: psycopg.Connection[Any], size: Size) -> None:
    connection.execute(
        """
        INSERT INTO clients_client (name, title, owner, tasks, purposes, lane, phi, features, tools, assertion_required,
                                    state, created)
        SELECT 'app-' || n, 'App ' || n, 'Ward ' || n %% 40, '{progress_note}', '{TREAT}', 'interactive', true, '{}', '{}',
               false, 'active', now() - (n || ' hours')::interval
        FROM generate_series(0, %s - 1) AS n
        """,
        [size.clients],
    )
    connection.execute(
        """
        INSERT INTO clients_apikey (client_id, prefix, sha256, created, expires, lane, phi, networks, certificate)
        SELECT c.id, 'iwk_' || lpad(to_hex(c.id * 4 + n), 8, '0'), encode(sha256((c.id * 4 + n)::text::bytea), 'hex'),
               now() - interval '30 days', now() + interval '90 days', '', true, '{}', ''
        FROM clients_client c, generate_series(1, 2) AS n WHERE c.name LIKE 'app-%%'
        """,
        [],
    )


def _releases(connection: psycopg.Connection[Any], size: Size, now: datetime) -> None:
    """Each came by an import, was proposed, signed by two and served for a while."""
    facts = connection.execute("SELECT facts FROM changes_change ORDER BY id LIMIT 1").fetchone()
    for number, at in enumerate(_days(now, size.releases), 2):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        release = _id(
            connection,
            "INSERT INTO releases_release (digest, name, version, title, family, manifest, files, verdict, received_by,"
            " received_at) VALUES (%s, 'eval', %s, 'Evaluation', 'qwen3', '{}', '{}', '{}', 'alice', %s) RETURNING id",
            [digest, number, at],
        )
        connection.execute(
            "INSERT INTO releases_import (media, bundle, state, bytes_total, bytes_done, code, message, checks, actor,"
            " cancel_requested, attempt, created, started, finished)"
            " VALUES ('stick', %s, 'refused', 9, 9, 'signature_bad', 'No.', '[]', 'alice', false, 1, %s, %s, %s)",
            [f"eval-{number}", at, at, at],
        )
        change = _id(
            connection,
            "INSERT INTO changes_change (kind, subject, facts, quorum, proposer, digest, reason, state, message,"
            " opened_at, decided_at, executed_at) VALUES ('release.activate', %s, %s, 2, 'alice', %s, 'A newer one',"
            " 'executed', '', %s, %s, %s) RETURNING id",
            [digest, Jsonb(facts[0] if facts else {}), digest, at, at, at],
        )
        for name in ("bob", "carol"):
            connection.execute(
                "INSERT INTO changes_approval (change_id, proposer, approver, digest, key_id, signature, at)"
                " VALUES (%s, 'alice', %s, %s, %s, 'x', %s)",
                [change, name, digest, name, at],
            )
        connection.execute(
            "INSERT INTO releases_deployment (release_id, change_id, slot, state, message, code, gate, created, served_at,"
            " ended_at) VALUES (%s, %s, 'b', 'retired', '', '', '{}', %s, %s, %s)",
            [release, change, at, at, at + timedelta(hours=1)],
        )


def _jobs(connection: psycopg.Connection[Any], size: Size, now: datetime) -> None:
    """What the last days left, and a thousand that wait."""
    connection.execute(
        """
        INSERT INTO queue_job (ref, client, key_id, task, purpose, state, code, attempt, failures, intent_open,
                               cancel_requested, worker, not_before, rung_at, payload, body_hmac, created, finished)
        SELECT 'job_' || lpad(to_hex(n), 24, '0'), 'app-' || n %% %(clients)s, 'iwk_00000001', 'progress_note', 'TREAT',
               CASE WHEN n <= 1000 THEN 'queued' ELSE 'succeeded' END, '', 1, 0, false, false, '', %(now)s, %(now)s, 'x', '',
               %(now)s - (n || ' seconds')::interval, CASE WHEN n <= 1000 THEN NULL ELSE %(now)s END
        FROM generate_series(1, %(jobs)s) AS n
        """,
        {"clients": size.clients, "now": now, "jobs": size.jobs},
    )


def _alerts(now: datetime) -> None:
    Alert.objects.bulk_create(
        Alert(
            key=f"gpu.temperature.{number}", severity="warning", title="GPU is warm", detail="83 degrees", opened_at=at,
            closed_at=None if number < 12 else at + timedelta(minutes=9),
        )
        for number, at in enumerate(_days(now, 2000))
    )  # fmt: skip


def _days(now: datetime, count: int) -> Iterator[datetime]:
    """That many moments of the year, the newest first."""
    for number in range(count):
        yield now - timedelta(days=1) - timedelta(days=364) * number / count


def _id(connection: psycopg.Connection[Any], statement: str, values: list[Any]) -> int:
    row = connection.execute(statement, values).fetchone()
    if row is None:
        raise RuntimeError("an insert gave no id")
    return int(row[0])
