"""The tally of refusals: exact, bounded, and patient while the log is away."""

from __future__ import annotations

import json

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
