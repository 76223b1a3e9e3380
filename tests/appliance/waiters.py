"""Whether somebody waits in the database: how a test knows that the second of two has arrived."""

from __future__ import annotations

from django.db import connection


def somebody_waits_for_a_lock() -> bool:
    """Asked from another connection than the one that waits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # or a transaction sees the same answer for ever
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(cursor.fetchone()[0])
