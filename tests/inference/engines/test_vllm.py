"""The door to vLLM's wire: what goes out is built by us, and nothing that comes back is believed."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from inference.engines.engine import Finish, Order, Piece, Usage
from inference.engines.errors import EngineError, EngineProtocolError
from inference.engines.vllm import Limits, Vllm, sse_data
from inference.policy.ask import Prompt, Sampling, Turn
from tests.simulators.engine import HOSTILE, EngineStandIn
from tests.waiting import until

LIMITS = Limits(first_byte_s=1.0, between_bytes_s=1.0, total_s=5.0, total_bytes=2_000_000)
ORDER = Order(
    slot="a",
    model="m-1",
    prompt=Prompt(turns=(Turn("system", "Write."), Turn("user", '{"age": 71}'))),
    sampling=Sampling(max_tokens=9, temperature=0.0, stop=("END",)),
    priority=-10,
    cache_salt="salt",
    request_id="req_1",
)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[EngineStandIn]:
    engine = EngineStandIn(tmp_path / "engine.sock").start()
    yield engine
    engine.stop()


def client(stand_in: EngineStandIn, limits: Limits = LIMITS) -> Vllm:
    return Vllm(socket_of=lambda slot: stand_in.path, api_key="k" * 64, limits=limits)


async def ask(stand_in: EngineStandIn, order: Order = ORDER) -> list[Piece]:
    engine = client(stand_in)
    try:
        async with aclosing(engine.generate(order)) as pieces:
            return [piece async for piece in pieces]
    finally:
        await engine.close()


async def test_a_whole_answer_ends_with_its_finish_and_its_usage(stand_in: EngineStandIn) -> None:
    pieces = await ask(stand_in)
    assert "".join(piece.text for piece in pieces) == "The patient is well."
    assert [piece.finish for piece in pieces] == [None] * 4 + [Finish.STOP]
    assert pieces[-1].usage == Usage(11, 4)


async def test_the_engine_gets_these_bytes_and_no_others(stand_in: EngineStandIn) -> None:
    await ask(stand_in)
    (seen,) = stand_in.seen
    assert seen.line == "POST /v1/chat/completions HTTP/1.1"
    assert seen.headers == {
        "host": "engine",
        "accept": "text/event-stream",
        "content-type": "application/json",
        "authorization": f"Bearer {'k' * 64}",
        "x-request-id": "req_1",
        "connection": "close",
        "content-length": str(len(seen.body)),
    }
    assert seen.fields == {
        "model": "m-1",
        "messages": [{"role": "system", "content": "Write."}, {"role": "user", "content": '{"age": 71}'}],
        "n": 1,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "priority": -10,
        "cache_salt": "salt",
        "max_tokens": 9,
        "temperature": 0.0,
        "stop": ["END"],
    }


@pytest.mark.parametrize(("behave", "code"), HOSTILE.items())
async def test_a_broken_engine_never_gives_a_whole_answer(stand_in: EngineStandIn, behave: str, code: str) -> None:
    stand_in.behave = behave
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EngineError) as refused:
        await asyncio.wait_for(ask(stand_in), 10)
    assert refused.value.code == code
    assert "INTERNAL" not in refused.value.message
    # T30: not more than 50 MB for whatever it sends (ru_maxrss is in KiB).
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


async def test_an_engine_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    engine = Vllm(socket_of=lambda slot: tmp_path / "nothing.sock", api_key="k", limits=LIMITS)
    with pytest.raises(EngineError) as refused:
        async for _ in engine.generate(ORDER):
            pass
    assert refused.value.code == "engine_unavailable"
    await engine.close()


async def test_an_answer_longer_than_a_generation_may_take_is_cut(stand_in: EngineStandIn) -> None:
    stand_in.tokens, stand_in.pause_s = ("x ",) * 100, 0.2
    engine = client(stand_in, replace(LIMITS, total_s=1.0))
    with pytest.raises(EngineError) as refused:
        async for _ in engine.generate(ORDER):
            pass
    assert refused.value.code == "engine_timeout"
    await engine.close()


async def test_closing_the_iterator_hangs_up_on_the_engine_at_once(stand_in: EngineStandIn) -> None:
    stand_in.tokens, stand_in.pause_s = ("x ",) * 100, 0.1
    engine = client(stand_in)
    async with aclosing(engine.generate(ORDER)) as pieces:
        await anext(pieces)
    cut = await asyncio.to_thread(until, lambda: stand_in.seen[0].cut, 2, "the engine noticed that we hung up")
    assert cut
    await engine.close()


async def test_cancelling_the_reader_hangs_up_on_the_engine_at_once(stand_in: EngineStandIn) -> None:
    stand_in.behave = "hang"
    reading = asyncio.create_task(ask(stand_in))
    await asyncio.to_thread(until, lambda: stand_in.seen, 2, "the engine has the request")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await asyncio.to_thread(until, lambda: stand_in.seen[0].cut, 2, "the engine noticed that we hung up")


async def test_a_cut_stream_leaves_nothing_for_the_next_request(stand_in: EngineStandIn) -> None:
    stand_in.tokens = tuple(f"{number} " for number in range(200))
    engine = client(stand_in)
    for taken in range(1, 6):
        async with aclosing(engine.generate(ORDER)) as pieces:
            for number in range(taken):
                assert (await anext(pieces)).text == f"{number} "
    assert len(stand_in.seen) == 5
    await engine.close()


async def read(*chunks: bytes, limits: Limits) -> list[bytes]:
    async def wire() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [event async for event in sse_data(wire(), limits)]


@pytest.mark.parametrize(
    ("limits", "good", "bad"),
    [
        (Limits(line_bytes=20), b"data: " + b"a" * 14 + b"\n\n", b"data: " + b"a" * 15 + b"\n\n"),
        (Limits(line_bytes=20), b"data: " + b"a" * 14 + b"\n\n", b"data: " + b"a" * 15),  # and no end in sight
        (Limits(event_bytes=8), b"data: aaaa\ndata: bbbb\n\n", b"data: aaaa\ndata: bbbbb\n\n"),
        (Limits(total_bytes=20), b"data: aaaa\n\n", b"data: aaaa\n\ndata: bbbb\n\n"),
        (Limits(), b"data: aaaa\n\n", b"data: aaaa\n"),
        (Limits(), b": note\r\n\r\n", b"note\n\n"),
    ],
)
async def test_each_limit_on_the_stream_holds_by_itself(limits: Limits, good: bytes, bad: bytes) -> None:
    await read(good, limits=limits)
    await read(*(bytes([byte]) for byte in good), limits=limits)
    with pytest.raises(EngineProtocolError):
        await read(bad, limits=limits)
    with pytest.raises(EngineProtocolError):
        await read(*(bytes([byte]) for byte in bad), limits=limits)


async def test_events_are_the_same_however_the_bytes_are_cut() -> None:
    wire = b'data: {"a": 1}\r\n\r\n: note\ndata: x\ndata: y\n\ndata: [DONE]\n\n'
    for size in range(1, len(wire)):
        parts = [wire[at : at + size] for at in range(0, len(wire), size)]
        assert await read(*parts, limits=Limits()) == [b'{"a": 1}', b"xy", b"[DONE]"]


async def test_a_line_without_an_end_is_given_up_at_its_limit_and_not_read_on() -> None:
    taken = 0

    async def wire() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"data: aaaa"

    with pytest.raises(EngineProtocolError):
        [event async for event in sse_data(wire(), Limits(line_bytes=20))]
    assert taken == 3
