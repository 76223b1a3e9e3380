"""Lanes through the real process: who is first, what no caller can change, and what becomes of a late answer.

Order is told by events in the engine, never by a clock.
"""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.conf import settings

from inference.clients import services as clients
from inference.engines.engine import PRIORITY
from inference.policy.catalog import Lane
from tests.simulators import lan as lans
from tests.simulators.engine import Seen
from tests.simulators.lan import Lan
from tests.simulators.slotted_engine import SlottedEngine
from tests.waiting import until

CHAT = "/v1/chat/completions"


@pytest.fixture
def engine() -> Iterator[SlottedEngine]:
    stand_in = SlottedEngine(settings.SITE.engine_socket("a"))
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def slotted(lan: Lan, engine: SlottedEngine) -> SlottedEngine:
    return engine


@pytest.fixture
def lab(lan: Lan) -> str:
    return key(lan, "lab", Lane.BATCH)


@pytest.fixture
def icu(lan: Lan) -> str:
    return key(lan, "icu", Lane.STAT)


def key(lan: Lan, name: str, lane: Lane) -> str:
    found = lans.new_key(f"{name}-of-{lan.client}", lane=lane.value)
    until(lambda: lan.ask("GET", "/v1/models", key=found).status == 200, 5, "the API knows the key")
    return found


def send(lan: Lan, key: str, **changes: Any) -> socket.socket:
    """A request whose answer is read later, or never."""
    body = json.dumps(lans.chat_body(**changes)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    wire = socket.create_connection(("127.0.0.1", lan.port), timeout=30)
    wire.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return wire


def read(wire: socket.socket) -> str:
    parts = []
    while part := wire.recv(65_536):
        parts.append(part)
    return b"".join(parts).decode()


def lane_now(lan: Lan, lane: Lane) -> dict[str, Any]:
    found: dict[str, Any] = lan.ask("GET", "/v1/status", key="").json["lanes"][lane.value]
    return found


def test_five_hundred_batch_requests_and_one_stat_call_which_starts_within_one_slot_time(
    lan: Lan, slotted: SlottedEngine, lab: str, icu: str
) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(send(lan, lab)) for _ in range(500)]
        # Half of twelve places are batch's: four run in the engine, two wait in it; half of the line is one client's.
        until(lambda: len(slotted.seen) == 6 and len(slotted.started) == 4, 20, "batch holds what it may")
        until(lambda: lane_now(lan, Lane.BATCH)["waiting"] == 12, 20, "batch stands in line")
        urgent = stack.enter_context(send(lan, icu))
        until(lambda: len(slotted.seen) == 7, 10, "the stat call is in the engine, before any batch request ended")
        assert slotted.started == slotted.seen[:4]
        slotted.permit(1)
        until(lambda: len(slotted.started) == 5, 10, "a slot came free and was filled")
        assert slotted.started[4] is slotted.seen[6]
        slotted.permit(500)
        assert read(urgent).startswith("HTTP/1.1 200")
        answers = [read(wire) for wire in wires]
    statuses = Counter(answer.split(" ", 2)[1] for answer in answers)
    assert statuses == {"200": 18, "429": 482}
    refused = [answer.lower() for answer in answers if " 429 " in answer]
    assert all("retry-after: " in answer and "queue_full" in answer for answer in refused)
    assert lane_now(lan, Lane.BATCH)["waiting"] == 0


FORGED: list[tuple[dict[str, Any], dict[str, str], int]] = [
    ({"priority": -100}, {}, 400),
    ({"cache_salt": "x"}, {}, 400),
    ({"lane": "stat"}, {}, 400),
    ({"vllm_xargs": {"priority": -100}}, {}, 400),
    ({"metadata": {"task": "progress_note", "purpose": "TREAT", "lane": "stat"}}, {}, 400),
    ({"model": "another"}, {}, 404),
    ({}, {"X-Priority": "-100", "X-Lane": "stat", "X-Cache-Salt": "x", "Priority": "u=0"}, 200),
    ({}, {"X-Request-Id": "req_of_mine", "X-Model": "another"}, 200),
]


def test_forged_priority_salt_lane_and_model_change_nothing(
    lan: Lan, slotted: SlottedEngine, lab: str, icu: str
) -> None:
    slotted.permit(100)

    def asked(key: str, changes: dict[str, Any], headers: dict[str, str]) -> tuple[int, Seen | None]:
        before = len(slotted.seen)
        status = lan.ask("POST", CHAT, lans.chat_body(**changes), key=key, headers=headers).status
        return status, slotted.seen[before] if len(slotted.seen) > before else None

    _, honest = asked(lab, {}, {})
    assert honest is not None
    assert honest.fields["priority"] == PRIORITY[Lane.BATCH]
    for changes, headers, status in FORGED:
        found, seen = asked(lab, changes, headers)
        assert (found, seen is not None) == (status, status == 200), (changes, headers)
        assert seen is None or seen.body == honest.body
        assert seen is None or "x-lane" not in seen.headers
    _, urgent = asked(icu, {}, {})
    assert urgent is not None
    assert urgent.fields["priority"] == PRIORITY[Lane.STAT]
    assert urgent.fields["cache_salt"] != honest.fields["cache_salt"]


def test_a_full_house_and_a_full_line_refuse_with_a_time_to_come_back(lan: Lan, slotted: SlottedEngine) -> None:
    with ExitStack() as stack:
        for _ in range(21):  # one client's nine places, and its twelve in line
            stack.enter_context(send(lan, lan.key))
        until(lambda: len(slotted.seen) == 9, 10, "nine requests are in the engine")
        until(lambda: lane_now(lan, Lane.INTERACTIVE)["waiting"] == 12, 10, "twelve stand in line")
        refused = lan.chat()
        assert (refused.status, refused.code) == (429, "client_queue_full")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        other = key(lan, "other", Lane.INTERACTIVE)
        stack.enter_context(send(lan, other))
        until(lambda: len(slotted.seen) == 10, 10, "another client goes straight in")
    # Who has left is out of the line and out of the engine, and leaves nothing behind.
    until(lambda: slotted.now == 0 and lane_now(lan, Lane.INTERACTIVE)["running"] == 0, 10, "all were hung up on")
    assert lane_now(lan, Lane.INTERACTIVE)["waiting"] == 0
    slotted.permit(1)
    assert lan.chat().status == 200


def test_a_key_revoked_while_its_request_stands_in_line_never_reaches_the_engine(
    lan: Lan, slotted: SlottedEngine
) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(send(lan, lan.key)) for _ in range(9)]
        until(lambda: len(slotted.started) == 4 and len(slotted.seen) == 9, 10, "the client's places are taken")
        last = stack.enter_context(send(lan, lan.key))
        until(lambda: lane_now(lan, Lane.INTERACTIVE)["waiting"] == 1, 10, "one more stands in line")
        clients.set_state(actor="erin", client=lan.client, active=False)
        until(lambda: lan.ask("GET", "/v1/models").status == 401, 5, "the key is refused")
        held[0].close()
        assert "rights_withdrawn" in read(last)
        assert len(slotted.seen) == 9


# --- deadlines


@pytest.mark.parametrize(
    "text", ["0", "-1", "1.5", "1e3", "\N{ARABIC-INDIC DIGIT FIVE}", "5 ms", "soon", "3600001", "99999999999"]
)
def test_a_deadline_that_is_not_one_is_refused(lan: Lan, text: str) -> None:
    reply = lan.ask("POST", CHAT, lans.chat_body(), headers={"X-Deadline-Ms": text.encode().decode("latin-1")})
    assert (reply.status, reply.code) == (400, "invalid_deadline")


def test_an_answer_that_is_not_begun_in_time_is_stopped_and_on_record(lan: Lan, slotted: SlottedEngine) -> None:
    reply = lan.ask("POST", CHAT, lans.chat_body(), headers={"X-Deadline-Ms": "400"})
    assert (reply.status, reply.code) == (503, "deadline_exceeded")
    assert int(reply.headers["retry-after"]) >= 1
    until(lambda: slotted.now == 0, 2, "the engine was hung up on")
    pair = lans.audit_rows(f"request_id = '{reply.headers['x-request-id']}' AND kind IN ('intent', 'outcome')")
    assert [row["outcome"] for row in pair] == ["started", "deadline_exceeded"]


def test_a_stream_that_is_not_whole_in_time_ends_with_the_error(lan: Lan, slotted: SlottedEngine) -> None:
    slotted.behave = "hang_in_the_middle"
    slotted.permit(1)
    reply = lan.ask("POST", CHAT, lans.chat_body(stream=True), headers={"X-Deadline-Ms": "1000"})
    *_, last = [line for line in reply.body.decode().split("\n\n") if line]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
    assert "patient" in reply.body.decode()
    until(lambda: slotted.now == 0, 2, "the engine was hung up on")
    (outcome,) = lans.audit_rows(f"request_id = '{reply.headers['x-request-id']}' AND kind = 'outcome'")
    assert (outcome["outcome"], outcome["output_tokens"]) == ("deadline_exceeded", 4)


def test_a_deadline_that_is_kept_changes_nothing(lan: Lan, slotted: SlottedEngine) -> None:
    slotted.permit(1)
    assert lan.ask("POST", CHAT, lans.chat_body(), headers={"X-Deadline-Ms": "20000"}).status == 200
