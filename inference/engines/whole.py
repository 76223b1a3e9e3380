"""The calls that are answered at once: texts become vectors, a recording becomes text.

The same door as `vllm`, for the two endpoints of its wire that do not stream: built from our own types, a fixed path
and fixed headers, one connection for one call, closed however it ends. The answer is hostile until it was read: its
size, its time, its types, the number and the length of vectors are bounded, and what the engine says about an error
goes no further than its status.
"""

from __future__ import annotations

import array
import asyncio
import base64
import json
import math
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from inference.engines import errors
from inference.engines.engine import Finish, Order, Piece, Usage
from inference.engines.errors import EngineProtocolError, EngineTimeoutError, EngineUnavailableError
from inference.policy.ask import Audio

_EMBEDDINGS, _TRANSCRIPTIONS = "http://engine/v1/embeddings", "http://engine/v1/audio/transcriptions"
_ERROR_BODY = 65_536
_SLICE = 65_536
_LONGEST_TEXT = 1_000_000
_MOST_DIMENSIONS = 8_192


@dataclass(frozen=True)
class Limits:
    """What one call may cost us, whatever the engine does."""

    connect_s: float = 2.0
    total_s: float = 300.0
    answer_bytes: int = 33_554_432


@dataclass(frozen=True)
class _Call:
    """One request as it goes over the wire."""

    url: str
    media_type: str
    length: int
    body: AsyncIterator[bytes | memoryview]


class Whole:
    """A client for the engines of this box, for what is answered in one piece."""

    def __init__(self, *, socket_of: Callable[[str], Path], api_key: str, limits: Limits | None = None) -> None:
        self._socket_of = socket_of
        self._limits = limits or Limits()
        self._headers = {"Host": "engine", "Accept": "application/json", "Authorization": f"Bearer {api_key}"}

    @staticmethod
    def takes(order: Order) -> bool:
        return bool(order.prompt.inputs) or order.prompt.audio is not None

    async def generate(self, order: Order) -> AsyncGenerator[Piece, None]:
        """One piece, with its finish; closing the iterator before it came closes the connection."""
        audio = order.prompt.audio
        call = _embed(order) if audio is None else _transcribe(order, audio)
        said = await self._ask(order, call)
        try:
            answer = json.loads(said)
            piece = _vectors(answer, len(order.prompt.inputs)) if audio is None else _text(answer)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EngineProtocolError("the engine sent an answer that cannot be read") from error
        yield piece

    async def _ask(self, order: Order, call: _Call) -> bytes:
        headers = {
            "Content-Type": call.media_type,
            "Content-Length": str(call.length),
            "X-Request-Id": order.request_id,
        }
        try:
            async with asyncio.timeout(self._limits.total_s), self._session(order.slot) as session:
                response = await session.post(call.url, data=call.body, headers=headers, allow_redirects=False)
                try:
                    return await self._read(response)
                finally:
                    response.close()
        except TimeoutError as error:
            raise EngineTimeoutError("the engine did not answer in time") from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise EngineUnavailableError("the engine cannot be reached, or hung up") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise EngineProtocolError("the engine's answer is not HTTP") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        good = response.status == 200
        if good and response.content_type != "application/json":
            raise EngineProtocolError("the engine answered with something that is not JSON")
        most = self._limits.answer_bytes if good else _ERROR_BODY
        parts: list[bytes] = []
        size = 0
        while chunk := await response.content.readany():
            parts.append(chunk)
            size += len(chunk)
            if size > most:
                if good:
                    raise EngineProtocolError("the engine sent more than an answer may hold")
                break
        if not good:
            raise errors.of_status(response.status, b"".join(parts))
        return b"".join(parts)

    def _session(self, slot: str) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(self._socket_of(slot)), force_close=True),
            headers=self._headers,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._limits.connect_s, sock_read=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            max_line_size=8_190,
            max_field_size=8_190,
        )


def _embed(order: Order) -> _Call:
    fields = {
        "model": order.model,
        "input": list(order.prompt.inputs),
        "encoding_format": "base64",
        "priority": order.priority,
        "cache_salt": order.cache_salt,
    }
    body = json.dumps(fields, ensure_ascii=False).encode()
    return _Call(_EMBEDDINGS, "application/json", len(body), _sliced(body))


def _transcribe(order: Order, audio: Audio) -> _Call:
    """A form of ours: no name, type or byte of the caller's is in it but the recording itself."""
    boundary = secrets.token_hex(16)  # nobody can have put it into the recording
    fields = {"model": order.model, "response_format": "json", "language": audio.language}
    head = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
        if value
    )
    head += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
        f'filename="recording.{audio.media_type.removeprefix("audio/")}"\r\nContent-Type: {audio.media_type}\r\n\r\n'
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = len(head) + len(audio.data) + len(tail)
    return _Call(_TRANSCRIPTIONS, f"multipart/form-data; boundary={boundary}", length, _sliced(head, audio.data, tail))


async def _sliced(*parts: bytes | bytearray) -> AsyncGenerator[bytes | memoryview, None]:
    """Views, never a joined copy; a recording at once would hold up everybody else's tokens."""
    for part in parts:
        with memoryview(part) as view:
            for start in range(0, len(view), _SLICE):
                yield view[start : start + _SLICE]


def _vectors(answer: Mapping[str, Any], wanted: int) -> Piece:
    found: dict[int, tuple[float, ...]] = {}
    for item in answer["data"]:
        index = item["index"]
        if type(index) is not int or not 0 <= index < wanted or index in found:
            raise ValueError
        found[index] = _vector(item["embedding"])
    if len(found) != wanted or len({len(vector) for vector in found.values()}) != 1:
        raise ValueError
    spent = answer["usage"]["prompt_tokens"]
    if type(spent) is not int or not 0 <= spent < 2**31:
        raise TypeError
    return Piece("", Usage(input_tokens=spent), Finish.STOP, vectors=tuple(found[index] for index in range(wanted)))


def _vector(text: Any) -> tuple[float, ...]:
    """32-bit numbers, little end first, each of them finite: NaN is not JSON."""
    numbers = array.array("f", base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        numbers.byteswap()
    if not 0 < len(numbers) <= _MOST_DIMENSIONS or not all(map(math.isfinite, numbers)):
        raise ValueError
    return tuple(numbers)


def _text(answer: Mapping[str, Any]) -> Piece:
    text = answer["text"]
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        raise TypeError
    return Piece(text.encode("utf-8", "replace").decode(), Usage(), Finish.STOP)
