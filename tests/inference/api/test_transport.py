"""Group F over raw sockets to the real process: each message gets its one answer, and no handler ran that should not."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections import Counter

import pytest

from tests.corpus import transport
from tests.corpus.transport import AUTH, CLOSE, HOST, KEY, WIRES, Wire
from tests.simulators import lan as lans
from tests.simulators.lan import Lan
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("db")

CODE = re.compile(rb'"code": "(\w+)"')


def exchange(lan: Lan, data: bytes) -> bytes:
    """Everything that comes back until the other side hangs up, as it must."""
    found = b""
    with socket.create_connection(("127.0.0.1", lan.port), timeout=10) as wire:
        with contextlib.suppress(OSError):  # it hung up on us while we were still sending
            wire.sendall(data.replace(KEY, lan.key.encode()))
        with contextlib.suppress(ConnectionResetError):  # because we had more to say
            while part := wire.recv(65_536):
                found += part
    return found


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_a_bad_message_gets_its_one_answer_and_the_connection_ends(corpus_lan: Lan, wire: Wire) -> None:
    answer = exchange(corpus_lan, wire.data)
    assert answer.count(b"HTTP/1.1 ") == (1 if wire.status else 0)
    assert answer.startswith(b"HTTP/1.1 %d " % wire.status if wire.status else b"")
    assert CODE.findall(answer) == ([wire.code.encode()] if wire.code else [])
    assert b"access-control" not in answer.lower()
    assert not corpus_lan.engine.seen


def counted() -> Counter[str]:
    """How many refusals of each code are on record."""
    found: Counter[str] = Counter()
    for row in lans.audit_rows("kind = 'refusal'"):
        found[row["outcome"]] += json.loads(row["detail"])["count"]
    return found


def settled(lan: Lan) -> Counter[str]:
    """The same, once every refusal before now is among them: two rounds of the tally have passed."""
    for _ in range(2):
        _wait_for_the_tally(lan)
    return counted()


def _wait_for_the_tally(lan: Lan) -> None:
    before = counted()["invalid_api_key"]
    lan.ask("GET", "/v1/models", key="iwk_nobody")
    until(lambda: counted()["invalid_api_key"] > before, 5, "the tally was written")


def test_each_refusal_of_ours_is_on_record_once_and_no_value_is(corpus_lan: Lan) -> None:
    expected = Counter(wire.code for wire in WIRES if wire.code)
    before = settled(corpus_lan)
    for wire in WIRES:
        if wire.code:
            exchange(corpus_lan, wire.data)
    until(lambda: counted() - before == expected, 5, "each was counted once")
    assert "evil" not in str(lans.audit_rows())
    assert "evil" not in corpus_lan.log.read_text()


def test_no_item_stands_twice() -> None:
    names = [str(wire) for wire in WIRES]
    assert len(names) == len(set(names))


def test_a_thousand_requests_in_one_breath_are_answered_in_their_order(corpus_lan: Lan) -> None:
    paths = ["/v1/models", "/v1/nothing", "/v1/models/default", transport.CHAT]
    wanted = [200, 404, 200, 405]
    requests = [transport.message(HOST, AUTH, method="GET", target=paths[number % 4]) for number in range(1000)]
    last = transport.get("/v1/models")
    answer = exchange(corpus_lan, b"".join(requests) + last)
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
    assert statuses == [wanted[number % 4] for number in range(1000)] + [200]
    assert len(set(re.findall(rb"x-request-id: (\w+)", answer))) == 1001


def test_an_upgrade_to_http_2_is_not_taken_up(corpus_lan: Lan) -> None:
    lines = ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Connection: Upgrade, HTTP2-Settings, close")
    answer = exchange(corpus_lan, transport.message(HOST, AUTH, *lines, method="GET", target="/v1/models"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"101" not in answer.split(b"\r\n\r\n")[0]


def test_a_good_message_is_answered_and_one_in_chunks_too(corpus_lan: Lan) -> None:
    """The neighbour of the corpus: what is refused there differs from these in one thing."""
    body = json.dumps(lans.chat_body()).encode()
    chunks = (
        b"".join(b"%x;a=1\r\n%s\r\n" % (len(part), part) for part in (body[:10], body[10:])) + b"0\r\nX-T: 1\r\n\r\n"
    )
    try:
        for data in (
            transport.framed(f"Content-Length: {len(body)}", CLOSE, body=body),
            transport.framed("Transfer-Encoding: chunked", CLOSE, body=chunks),
            transport.framed(f"Content-Length: {len(body)}", CLOSE, "Expect: 100-continue", body=body),
        ):
            assert b"The patient is well." in exchange(corpus_lan, data)
    finally:
        corpus_lan.engine.seen.clear()
