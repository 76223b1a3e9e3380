"""Very many at once: streams that must not mix, and connections that stall while others are answered.

`make stress-streams N=2000 SEED=7` runs the first with as many streams as it is told.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import time
from dataclasses import dataclass

import pytest

from tests.corpus.transport import AUTH, HOST, JSON, KEY, framed, message
from tests.simulators import lan as lans
from tests.simulators.lan import Lan
from tests.waiting import until, until_async

STREAMS = int(os.environ.get("STREAMS", "300"))
SEED = int(os.environ.get("SEED") or "0") or random.randrange(1, 2**32)
CUT = 0.3
CANARY = re.compile(rb"canary-[0-9a-f]{16}")

pytestmark = pytest.mark.usefixtures("db")


@dataclass
class Stream:
    """One caller: its canary, the byte it hangs up at (None: it stays), and what it got."""

    user: str
    canary: str
    cut_at: int | None
    got: bytes = b""

    def request(self, lan: Lan) -> bytes:
        record = {**lans.RECORD, "plan": self.canary}
        body = json.dumps(lans.chat_body(record, stream=True, user=self.user)).encode()
        data = message(HOST, AUTH, JSON, f"Content-Length: {len(body)}", "Connection: close", body=body)
        return data.replace(KEY, lan.key.encode())

    async def run(self, lan: Lan) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", lan.port)
        try:
            writer.write(self.request(lan))
            if self.cut_at is not None:
                self.got = await reader.readexactly(self.cut_at)
                writer.transport.abort()  # a reset, as from a cable that was pulled and a phone that was dropped
            else:
                self.got = await reader.read(-1)
        finally:
            writer.close()


async def length_until_held(lan: Lan) -> int:
    """How many bytes of an answer come before its last token."""
    probe = Stream("probe", "canary-" + "0" * 16, None)
    reader, writer = await asyncio.open_connection("127.0.0.1", lan.port)
    writer.write(probe.request(lan))
    found = b""
    while probe.canary.encode() + b".%d " % (len(lan.engine.tokens) - 2) not in found:
        found += await reader.read(65_536)
    writer.transport.abort()
    return len(found)


@pytest.mark.timeout(600)
async def test_no_stream_ever_holds_a_word_of_another_however_many_are_cut(wide_lan: Lan) -> None:
    lan = wide_lan
    lan.engine.behave, lan.engine.tokens = "echo", ("x",) * 8
    longest = await length_until_held(lan)
    print(f"STREAMS={STREAMS} SEED={SEED}: to see the same again")  # noqa: T201 - what a failed run is repeated with
    chance = random.Random(SEED)
    streams = [
        Stream(f"u{number}", f"canary-{chance.getrandbits(64):016x}", chance.randrange(longest - 100) if cut else None)
        for number, cut in enumerate(chance.random() < CUT for _ in range(STREAMS))
    ]
    cut = {stream.user for stream in streams if stream.cut_at is not None}
    # Who hangs up at byte 0 may be gone before its request was read: then there is nothing to put on record.
    unread = {stream.user for stream in streams if stream.cut_at == 0}
    running = [asyncio.create_task(stream.run(lan)) for stream in streams]

    # Nothing is let go before all are in the engine at once, and those that hang up have been noticed.
    async def all_are_held() -> bool:
        return lan.engine.now == STREAMS - len(cut) and len(lan.engine.seen) > STREAMS - len(unread)

    await until_async(all_are_held, 300, "all that stay are in the engine, and all that left were cut")
    assert lan.engine.most >= STREAMS - len(cut)
    lan.engine.let_go()
    await asyncio.gather(*running)

    for stream in streams:
        assert set(CANARY.findall(stream.got)) <= {stream.canary.encode()}, f"SEED={SEED} {stream.user}"
        if stream.cut_at is None:
            tokens = re.findall(rb"canary-[0-9a-f]{16}\.(\d) ", stream.got)
            assert tokens == [b"%d" % number for number in range(8)], f"SEED={SEED} {stream.user}"
            assert stream.got.count(b"data: [DONE]") == 1
    known = {stream.user for stream in streams} - unread
    outcomes = until(lambda: known <= (found := outcomes_of(lan)).keys() and found, 60, "every outcome is on record")
    assert {user for user in known if outcomes[user] == "client_gone"} == cut - unread
    assert {user for user in known if outcomes[user] == "ok"} == known - cut
    assert {outcomes[user] for user in unread & outcomes.keys()} <= {"client_gone"}
    assert not CANARY.search(lan.log.read_bytes())


def outcomes_of(lan: Lan) -> dict[str, str]:
    rows = lans.audit_rows(f"client = '{lan.client}' AND kind = 'outcome'")
    found = {row["end_user"]: row["outcome"] for row in rows}
    assert len(rows) == len(found), "one request has two outcomes"
    return found


@pytest.mark.timeout(120)
def test_two_hundred_of_each_kind_of_stalled_connection_leave_room_and_end_at_their_limits(wide_lan: Lan) -> None:
    """Half a head, half a body, and a reader that takes nothing: 200 of each at once (F97)."""
    lan = wide_lan
    lan.engine.behave = "flood"
    lan.engine.seen.clear()
    heads = [stalled(lan, b"GET /v1/models HTTP/1.1\r\nHost: loc") for _ in range(200)]
    bodies = [stalled(lan, framed("Content-Length: 100", body=b"{")) for _ in range(200)]
    body = json.dumps(lans.chat_body(stream=True, user="slow")).encode()
    readers = [stalled(lan, framed(f"Content-Length: {len(body)}", body=body), window=4096) for _ in range(200)]
    try:
        until(lambda: lan.engine.now == 200, 60, "the readers' answers are held up by their readers")
        lan.engine.behave, lan.engine.tokens = "answer", ("The ", "patient ", "is ", "well.")
        until(lambda: answered_within_a_second(lan), 20, "a normal request is answered in less than a second")
        until(lambda: lan.engine.now == 200, 5, "they are held up still, and the normal one has ended")
        for wire in bodies:
            assert b'"code": "body_timeout"' in everything(wire)
        until(lambda: lan.engine.now == 0, 60, "nobody generates for a reader that takes nothing")
        assert sum(seen.cut for seen in lan.engine.seen) >= 200
        own = f"client = '{lan.client}' AND kind = 'outcome' AND end_user = 'slow'"
        rows = until(lambda: len(found := lans.audit_rows(own)) == 200 and found, 10, "each is on record")
        assert {row["outcome"] for row in rows} == {"client_gone"}
    finally:
        for wire in (*heads, *bodies, *readers):
            wire.close()


def stalled(lan: Lan, data: bytes, *, window: int = 0) -> socket.socket:
    wire = socket.socket()
    if window:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    wire.settimeout(60)
    wire.connect(("127.0.0.1", lan.port))
    wire.sendall(data.replace(KEY, lan.key.encode()))
    return wire


def answered_within_a_second(lan: Lan) -> bool:
    """Asked again until it is: the bound is on one request, and this machine does other things too."""
    began = time.monotonic()
    reply = lan.chat(user="normal")
    took = time.monotonic() - began
    assert reply.json["choices"][0]["message"]["content"] == "The patient is well."
    return took < 1


def everything(wire: socket.socket) -> bytes:
    found = b""
    while part := wire.recv(65_536):
        found += part
    return found
