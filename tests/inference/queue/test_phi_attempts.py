"""PHI asked for without the right to, in durable work: an act of its own in the log, counted, and somebody is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from django.utils import timezone

from inference.clients import services as clients
from inference.policy.catalog import PURPOSES, TASKS
from inference.policy.rules import Rights
from inference.queue import rules
from inference.queue.models import Job
from inference.queue.tasks import Bench
from tests.inference.queue import test_batches as batches
from tests.inference.queue import test_jobs as jobs
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn


def attempts() -> list[dict[str, Any]]:
    return lans.audit_rows("action = 'phi.unauthorized_attempt'")


def withdraw_phi(rights: Rights) -> None:
    clients.set_grants(
        actor="erin", client=rights.client, tasks=list(TASKS), purposes=list(PURPOSES), lane="interactive", phi=False,
        features=[], tools=[], assertion_required=False,
    )  # fmt: skip


def test_the_lines_of_a_file_that_ask_for_phi_without_the_right_are_one_counted_attempt_and_open_the_alert(
    rights: Rights,
) -> None:
    ref = batches.submit(replace(rights, phi=False), batches.lines(20, end_user="dr.lee"))
    (row,) = attempts()
    found = {name: row[name] for name in ("kind", "outcome", "target", "client", "key_id", "end_user")}
    assert found == {
        "kind": "refusal", "outcome": "phi_not_granted", "target": ref, "client": rights.client,
        "key_id": rights.key_id, "end_user": "dr.lee",
    }  # fmt: skip
    assert json.loads(row["detail"]) == {
        "count": 20, "user_proved": False, "event": "unauthorized_phi_access_attempt",
    }  # fmt: skip
    assert rights.client in clients.watch_attempts(actor="test", now=timezone.now())


def test_lines_for_ever_new_names_are_counted_whole_in_few_records(rights: Rights) -> None:
    given = batches.lines(60)
    for number, line in enumerate(given):
        assert isinstance(line, rules.Line)
        given[number] = replace(line, ask=replace(line.ask, end_user=f"invented-{number}"))
    batches.submit(replace(rights, phi=False), given)
    assert len(attempts()) <= 21
    assert sum(json.loads(row["detail"])["count"] for row in attempts()) == 60


def test_a_proved_user_is_the_one_on_record_and_is_said_to_be_proved(rights: Rights) -> None:
    batches.submit(replace(rights, phi=False, end_user="clerk.kim"), batches.lines(3))
    (row,) = attempts()
    assert (row["end_user"], json.loads(row["detail"])["user_proved"]) == ("clerk.kim", True)


def test_work_that_may_not_see_phi_any_more_when_its_turn_comes_is_such_an_attempt_too(
    rights: Rights, bench: Bench, engine: EngineStandIn
) -> None:
    job, batch = jobs.submit(rights, end_user="dr.lee").ref, batches.submit(rights, batches.lines(1, end_user="dr.lee"))
    withdraw_phi(rights)
    jobs.attempt(bench, job)
    batches.turn(bench, batch)
    assert set(Job.objects.values_list("state", "code")) == {("failed", "phi_not_granted")}
    facts = {(row["client"], row["key_id"], row["task"], row["purpose"], row["end_user"]) for row in attempts()}
    assert len(attempts()) == 2
    assert facts == {(rights.client, rights.key_id, "progress_note", "TREAT", "dr.lee")}
    assert engine.seen == []
