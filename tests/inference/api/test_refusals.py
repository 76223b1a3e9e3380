"""The tally of refusals: exact, bounded, and patient while the log is away."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from appliance.audit.entry import Entry, Position
from appliance.audit.errors import AuditUnavailableError
from inference.api.refusals import Refusals
from inference.policy.catalog import Lane
from inference.policy.rules import Rights

WARD = Rights("ward-7", "iwk_00000000", frozenset({"progress_note"}), frozenset({"TREAT"}), Lane.STAT, phi=True)


class Book:
    """A log that can be away."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.away = False

    async def put(self, entry: Entry, *, keep: bool = False) -> Position:
        if self.away:
            raise AuditUnavailableError
        self.entries.append(entry)
        return Position(1, len(self.entries))

    def count(self, code: str) -> int:
        return sum(json.loads(entry.detail)["count"] for entry in self.entries if entry.outcome == code)


@pytest.fixture
def book() -> Book:
    return Book()


async def test_each_refusal_of_a_known_client_is_a_record_of_its_own(book: Book) -> None:
    refusals = Refusals(book)
    for number in range(3):
        await refusals.record("task_not_granted", request_id=f"req_{number}", rights=WARD)
    assert [entry.request_id for entry in book.entries] == ["req_0", "req_1", "req_2"]
    assert {entry.client for entry in book.entries} == {"ward-7"}


async def test_ten_thousand_bad_keys_are_one_record_with_the_exact_count(book: Book) -> None:
    refusals = Refusals(book)
    for _ in range(10_000):
        await refusals.record("invalid_api_key", request_id="req", rights=None)
    await refusals.close()
    assert len(book.entries) == 1
    assert book.count("invalid_api_key") == 10_000


async def test_a_known_client_that_floods_is_counted_too_and_none_is_lost(book: Book) -> None:
    refusals = Refusals(book)
    for _ in range(1000):
        await refusals.record("unknown_field", request_id="req", rights=WARD)
    await refusals.close()
    assert len(book.entries) < 30
    assert book.count("unknown_field") == 1000


async def test_one_clients_flood_does_not_take_another_ones_records(book: Book) -> None:
    refusals = Refusals(book)
    for _ in range(1000):
        await refusals.record("unknown_field", request_id="req", rights=WARD)
    other = Rights("ward-8", "iwk_11111111", WARD.tasks, WARD.purposes, Lane.STAT, phi=True)
    await refusals.record("unknown_field", request_id="req_other", rights=other)
    assert book.entries[-1].request_id == "req_other"


async def test_what_cannot_be_written_now_is_written_when_the_log_is_back(book: Book) -> None:
    refusals = Refusals(book)
    book.away = True
    await refusals.record("unknown_field", request_id="req", rights=WARD)
    refusals.count("audit_unavailable", rights=WARD)
    await refusals.flush()
    assert book.entries == []
    book.away = False
    await refusals.flush()
    assert (book.count("unknown_field"), book.count("audit_unavailable")) == (1, 1)


async def test_what_is_counted_while_the_tally_is_written_is_not_lost(book: Book) -> None:
    refusals = Refusals(book)
    refusals.count("unknown_field", rights=WARD)
    refusals.count("wrong_type", rights=WARD)
    write = book.put

    async def slow(entry: Entry, *, keep: bool = False) -> Position:
        if not book.entries:
            refusals.count("wrong_type", rights=WARD)
        return await write(entry, keep=keep)

    book.put = slow  # type: ignore[method-assign]  # a log that is slow just now
    await refusals.flush()
    await refusals.flush()
    assert (book.count("unknown_field"), book.count("wrong_type")) == (1, 2)


async def test_phi_without_the_right_to_it_is_an_act_of_its_own_with_the_user_it_was_asked_for(book: Book) -> None:
    refusals = Refusals(book)
    await refusals.record("phi_not_granted", request_id="req_1", rights=WARD, end_user="dr.kim")
    await refusals.record("phi_not_granted", request_id="req_2", rights=replace(WARD, end_user="dr.lee"), end_user="x")
    said, proved = book.entries
    assert {said.action, proved.action} == {"phi.unauthorized_attempt"}
    assert json.loads(said.detail) == {"count": 1, "user_proved": False, "event": "unauthorized_phi_access_attempt"}
    assert (said.end_user, proved.end_user, json.loads(proved.detail)["user_proved"]) == ("dr.kim", "dr.lee", True)


async def test_users_that_a_caller_invents_are_not_kept_apart_without_end(book: Book) -> None:
    refusals = Refusals(book)
    book.away = True
    for number in range(2000):
        await refusals.record("phi_not_granted", request_id="req", rights=WARD, end_user=f"user-{number}")
    assert len(refusals._tally) <= 501
    book.away = False
    await refusals.flush()
    assert book.count("phi_not_granted") == 2000
