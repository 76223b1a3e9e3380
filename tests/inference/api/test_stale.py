"""PostgreSQL is lost to the API process alone, while an answer runs: withdrawals cannot reach it, so it ends by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.db import connection

from tests.inference.api.test_rights import records, rest, stream
from tests.simulators.lan import Lan
from tests.waiting import until


@contextmanager
def frozen() -> Iterator[None]:
    """The API's own connections answer no more; everybody else's do."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s", [settings.SITE.postgres.app_role])
        pids = [row[0] for row in cursor.fetchall()]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("behave", ["hang_in_the_middle", "hang"])
def test_an_answer_ends_when_its_process_cannot_read_rights_any_more(lan: Lan, behave: str) -> None:
    lan.engine.behave = behave
    with stream(lan, "") as wire:
        until(lambda: lan.engine.now, 5, "the engine has the request")
        with frozen():
            began = time.monotonic()
            text = rest(wire, until=b"rights_stale")
            assert time.monotonic() - began > 3  # not at the first word that is late
            assert lan.engine.seen[0].ended_at - began < 10  # T17, though nobody could say that anything was withdrawn
    assert b"rights_stale" in text
    assert b"[DONE]" not in text
    until(lambda: lan.engine.seen[0].cut, 5, "the engine was told to stop")
    until(lambda: records(lan, "kind = 'outcome' AND outcome = 'rights_stale'"), 10, "the outcome is on record")
    until(lambda: lan.ask("GET", "/v1/models").status == 200, 10, "the door is open again")
