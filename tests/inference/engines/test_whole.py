"""The two calls that are answered at once: what goes out is built by us, and nothing that comes back is believed."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.engines.engine import Finish, Order, Piece, Usage
from inference.engines.errors import EngineError
from inference.engines.vllm import Vllm
from inference.engines.whole import Limits, Whole
from inference.policy.ask import Audio, Prompt, Sampling
from tests.simulators.engine import EngineStandIn
from tests.waiting import until

LIMITS = Limits(total_s=2.0, answer_bytes=1_000_000)
TEXTS = Order(
    slot="a",
    model="m-1",
    prompt=Prompt(inputs=("cough", "fever")),
    sampling=Sampling(),
    priority=-10,
    cache_salt="salt",
    request_id="req_1",
)
RECORDING = replace(TEXTS, prompt=Prompt(audio=Audio(bytearray(b"RIFF" + bytes(200_000)), "audio/wav", "es")))


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[EngineStandIn]:
    engine = EngineStandIn(tmp_path / "engine.sock").start()
    yield engine
    engine.stop()


async def ask(stand_in: EngineStandIn, order: Order) -> list[Piece]:
    whole = Whole(socket_of=lambda slot: stand_in.path, api_key="k" * 64, limits=LIMITS)
    async with aclosing(whole.generate(order)) as pieces:
        return [piece async for piece in pieces]


async def test_texts_become_one_vector_each_in_the_order_they_were_given(stand_in: EngineStandIn) -> None:
    (piece,) = await ask(stand_in, TEXTS)
    assert piece == Piece("", Usage(7, 0), Finish.STOP, vectors=((0.5, -0.25, 1.0), (0.5, -0.25, 1.0)))
    (seen,) = stand_in.seen
    assert seen.line == "POST /v1/embeddings HTTP/1.1"
    assert seen.headers["authorization"] == f"Bearer {'k' * 64}"
    assert seen.fields == {
        "model": "m-1",
        "input": ["cough", "fever"],
        "encoding_format": "base64",
        "priority": -10,
        "cache_salt": "salt",
    }


async def test_a_recording_goes_out_in_a_form_of_ours_and_comes_back_as_text(stand_in: EngineStandIn) -> None:
    (piece,) = await ask(stand_in, RECORDING)
    assert piece == Piece("The patient is well.", Usage(), Finish.STOP)
    (seen,) = stand_in.seen
    assert seen.line == "POST /v1/audio/transcriptions HTTP/1.1"
    boundary = seen.headers["content-type"].removeprefix("multipart/form-data; boundary=").encode()
    _, *parts, end = seen.body.split(b"--" + boundary)
    assert end == b"--\r\n"
    heads = [part.partition(b"\r\n\r\n")[0].strip().decode() for part in parts]
    values = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]
    audio = RECORDING.prompt.audio
    assert audio is not None
    assert heads == [
        'Content-Disposition: form-data; name="model"',
        'Content-Disposition: form-data; name="response_format"',
        'Content-Disposition: form-data; name="language"',
        'Content-Disposition: form-data; name="file"; filename="recording.wav"\r\nContent-Type: audio/wav',
    ]
    assert values == [b"m-1", b"json", b"es", bytes(audio.data)]


async def test_the_door_to_the_engine_sends_both_this_way(stand_in: EngineStandIn) -> None:
    engine = Vllm(socket_of=lambda slot: stand_in.path, api_key="k" * 64)
    for order in (TEXTS, RECORDING):
        async with aclosing(engine.generate(order)) as pieces:
            assert [piece.finish async for piece in pieces] == [Finish.STOP]
    await engine.close()
    assert [seen.path for seen in stand_in.seen] == ["/v1/embeddings", "/v1/audio/transcriptions"]


def vectors(*packed: bytes, **changes: Any) -> bytes:
    data = [{"index": index, "embedding": base64.b64encode(one).decode()} for index, one in enumerate(packed)]
    return json.dumps({"data": data, "usage": {"prompt_tokens": 7}, **changes}).encode()


ONE, NAN = struct.pack("<2f", 1.0, 2.0), struct.pack("<2f", 1.0, float("nan"))
BAD_VECTORS = {
    "one too few": vectors(ONE),
    "one too many": vectors(ONE, ONE, ONE),
    "of two lengths": vectors(ONE, ONE[:4]),
    "not a number": vectors(ONE, NAN),
    "half a number": vectors(ONE, ONE[:6]),
    "empty": vectors(b"", b""),
    "too long": vectors(bytes(4 * 8193), bytes(4 * 8193)),
    "one index twice": vectors(ONE, ONE).replace(b'"index": 1', b'"index": 0'),
    "an index of another type": vectors(ONE, ONE).replace(b'"index": 1', b'"index": true'),
    "negative usage": vectors(ONE, ONE, usage={"prompt_tokens": -1}),
    "no usage": vectors(ONE, ONE, usage=None),
    "not base64": vectors(ONE, ONE).replace(b"AACAPw", b"AA*APw"),
    "numbers in place of base64": b'{"data": [{"index": 0, "embedding": [1.0]}]}',
    "an error with status 200": b'{"error": {"message": "INTERNAL"}}',
    "not JSON": b"INTERNAL",
    "deep": b"[" * 100_000,
    "a list": b"[]",
}


@pytest.mark.parametrize("says", BAD_VECTORS.values(), ids=list(BAD_VECTORS))
async def test_vectors_that_are_not_what_was_asked_for_are_refused(stand_in: EngineStandIn, says: bytes) -> None:
    stand_in.behave, stand_in.says = "say", says
    with pytest.raises(EngineError) as refused:
        await ask(stand_in, TEXTS)
    assert refused.value.code == "engine_protocol"
    assert "INTERNAL" not in str(refused.value)


@pytest.mark.parametrize("says", [b'{"text": 1}', b'{"text": null}', b"{}", b'{"text": "%s"}' % (b"a" * 1_000_001)])
async def test_a_transcript_that_is_no_text_or_has_no_end_is_refused(stand_in: EngineStandIn, says: bytes) -> None:
    stand_in.behave, stand_in.says = "say", says
    with pytest.raises(EngineError) as refused:
        await ask(stand_in, RECORDING)
    assert refused.value.code == "engine_protocol"


HOSTILE = {
    "endless_json": "engine_protocol",
    "infinite_header": "engine_protocol",
    "endless_header_line": "engine_protocol",
    "garbage": "engine_protocol",
    "not_http": "engine_protocol",
    "redirect": "engine_failed",
    "error_500": "engine_failed",
    "error_400": "engine_refused",
    "too_long": "context_length",
    "hang": "engine_timeout",
}


@pytest.mark.parametrize("behave", HOSTILE)
@pytest.mark.parametrize("order", [TEXTS, RECORDING], ids=["texts", "recording"])
async def test_a_hostile_engine_gets_its_code_and_none_of_its_words_pass(
    stand_in: EngineStandIn, behave: str, order: Order
) -> None:
    stand_in.behave = behave
    with pytest.raises(EngineError) as refused:
        await ask(stand_in, order)
    assert refused.value.code == HOSTILE[behave]
    assert "INTERNAL" not in str(refused.value)


async def test_nothing_listening_is_unavailable(stand_in: EngineStandIn, tmp_path: Path) -> None:
    whole = Whole(socket_of=lambda slot: tmp_path / "nobody.sock", api_key="k", limits=LIMITS)
    with pytest.raises(EngineError) as refused:
        await anext(whole.generate(TEXTS))
    assert refused.value.code == "engine_unavailable"


async def test_a_caller_who_leaves_hangs_up_on_the_engine(stand_in: EngineStandIn) -> None:
    stand_in.behave = "hang"
    asking = asyncio.create_task(ask(stand_in, RECORDING))
    await asyncio.to_thread(until, lambda: stand_in.seen, 5, "the engine has the request")
    asking.cancel()
    await asyncio.wait({asking})
    await asyncio.to_thread(until, lambda: stand_in.seen[0].cut, 2, "the engine was hung up on")
