"""The connection to an engine: what it holds unread, whom its clock counts against, and how it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from inference.engines.engine import Order
from inference.engines.errors import EngineError
from inference.engines.vllm import Vllm
from inference.engines.wire import Answer, Bounds
from inference.policy.ask import Prompt, Sampling, Turn
from tests.simulators.engine import OK
from tests.waiting import until_async

BOUNDS = Bounds(first_byte_s=0.5, between_bytes_s=0.5, total_s=20, total_bytes=1_000_000_000)
EVENT = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def asked(path: Path, talk: Talk, bounds: Bounds = BOUNDS) -> AsyncIterator[Answer]:
    server = await asyncio.start_unix_server(talk, path=str(path))
    answer = Answer(bounds)
    try:
        await answer.ask(str(path), b"POST / HTTP/1.1\r\n\r\n")
        yield answer
    finally:
        answer.close()
        server.close()


async def test_an_engine_that_is_faster_than_we_read_is_held_up_and_not_kept(tmp_path: Path) -> None:
    sent = 0

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK)
        while True:
            writer.write(EVENT)
            await writer.drain()
            sent += len(EVENT)

    async with asked(tmp_path / "s", flood) as answer:
        # What is on its way is the sockets' and both loops' buffers; it stops growing while nobody reads.
        seen = -1

        async def still() -> bool:
            nonlocal seen
            before, seen = seen, sent
            await asyncio.sleep(0.2)
            return before == sent

        await until_async(still, 10, "the engine is held up")
        assert sent < 4_000_000
        assert answer._unread < 1_000_000
        # Longer than a pause may be: it is the engine that waits here, and that is not held against it.
        await asyncio.sleep(2 * BOUNDS.between_bytes_s)
        total = 0
        while total < 8_000_000:
            total += len(await answer.read())


async def test_a_pause_is_the_engines_again_as_soon_as_we_read(tmp_path: Path) -> None:
    async def begin(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + EVENT)
        await asyncio.Event().wait()

    async with asked(tmp_path / "s", begin) as answer:
        size = 0
        while size < 65_536:
            size += len(await answer.read())
        with pytest.raises(EngineError) as refused:
            await answer.read()
    assert refused.value.code == "engine_timeout"


async def test_a_second_answer_on_the_same_connection_is_never_part_of_the_first(tmp_path: Path) -> None:
    async def twice(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"3\r\none\r\n0\r\n\r\n" + OK + b"3\r\ntwo\r\n0\r\n\r\n")
        await writer.drain()

    async with asked(tmp_path / "s", twice) as answer:
        assert await answer.read() == b"one"
        assert await answer.read() == b""


async def test_an_engine_that_has_said_all_is_left_to_end_and_not_hung_up_on(tmp_path: Path) -> None:
    hung_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def lingers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        said = b'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
        writer.write(OK + b"%x\r\n%s\r\n" % (len(said), said))
        gone = asyncio.create_task(reader.read())
        done, _ = await asyncio.wait({gone}, timeout=0.5)
        hung_up.set_result(bool(done))
        writer.write(b"0\r\n\r\n")
        await asyncio.wait_for(gone, 5)  # and then we do
        writer.close()

    server = await asyncio.start_unix_server(lingers, path=str(tmp_path / "s"))
    engine = Vllm(socket_of=lambda slot: tmp_path / "s", api_key="k")
    assert [piece.text async for piece in engine.generate(ORDER)] == ["hi", ""]
    assert not await hung_up
    server.close()
    await asyncio.wait_for(server.wait_closed(), 5)


async def test_a_request_id_cannot_add_a_line_to_the_request(tmp_path: Path) -> None:
    engine = Vllm(socket_of=lambda slot: tmp_path / "nothing", api_key="k")
    with pytest.raises(RuntimeError, match="request id"):
        async for _ in engine.generate(replace(ORDER, request_id="req_1\r\nX-Priority: 9")):
            pass


ORDER = Order(
    slot="a",
    model="m-1",
    prompt=Prompt(turns=(Turn("user", "hello"),)),
    sampling=Sampling(),
    priority=0,
    cache_salt="salt",
    request_id="req_1",
)
