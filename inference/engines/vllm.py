"""The only door to vLLM's wire: HTTP over the slot's unix socket.

The request is built here from our own types, with a fixed path and fixed headers; no byte of a caller's becomes
either. What comes back is treated as hostile (SECURITY.md T30): every length, every type and the whole time is
bounded, and nothing the engine says about an error goes further than its status.

- A connection is used once and closed: a cancelled stream can leave nothing behind for the next one (T13), and closing
  it is what makes vLLM stop generating.
- A stream is whole when a finish reason and then [DONE] were seen. Everything else is an EngineError, however much
  text came before it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from inference.engines import errors
from inference.engines.engine import Finish, Order, Piece, Usage
from inference.engines.errors import (
    EngineError,
    EngineProtocolError,
    EngineTimeoutError,
    EngineUnavailableError,
)
from inference.engines.whole import Whole

_BASE = "http://engine"
_DONE = b"[DONE]"
_ERROR_BODY = 65_536


@dataclass(frozen=True)
class Limits:
    """What one generation may cost us, whatever the engine does."""

    connect_s: float = 2.0
    first_byte_s: float = 120.0
    between_bytes_s: float = 60.0
    total_s: float = 600.0
    line_bytes: int = 65_536
    event_bytes: int = 1_048_576
    total_bytes: int = 67_108_864


class Vllm:
    """A client for the engines of this box, one socket per slot."""

    def __init__(self, *, socket_of: Callable[[str], Path], api_key: str, limits: Limits | None = None) -> None:
        self._socket_of = socket_of
        self._whole = Whole(socket_of=socket_of, api_key=api_key)
        self._limits = limits or Limits()
        self._headers = {
            "Host": "engine",
            "Accept": "text/event-stream",
            "Content-Type": "application/json",
            "Authorization": f"Bearer {api_key}",
        }
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def generate(self, order: Order) -> AsyncGenerator[Piece, None]:
        """The answer piece by piece; closing the iterator closes the connection."""
        if self._whole.takes(order):
            async with aclosing(self._whole.generate(order)) as answers:
                async for piece in answers:
                    yield piece
            return
        async with aclosing(self._events(order)) as events, aclosing(_pieces(events)) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def _events(self, order: Order) -> AsyncGenerator[bytes, None]:
        deadline = asyncio.get_running_loop().time() + self._limits.total_s
        try:
            async with asyncio.timeout(self._limits.first_byte_s):
                response = await self._session(order.slot).post(
                    _BASE + path(order),
                    data=body(order),
                    headers={"X-Request-Id": order.request_id},
                    allow_redirects=False,
                )
        except TimeoutError as error:
            raise EngineTimeoutError("the engine did not begin to answer in time") from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise EngineUnavailableError("the engine cannot be reached") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise EngineProtocolError("the engine's answer is not HTTP") from error
        try:
            await self._check(response)
            async with aclosing(sse_data(self._chunks(response, deadline), self._limits)) as data:
                async for item in data:
                    yield item
        finally:
            # close, not release: an unread rest must never be met by another request, and vLLM aborts on it.
            response.close()

    async def _chunks(self, response: aiohttp.ClientResponse, deadline: float) -> AsyncGenerator[bytes, None]:
        # No timeout may span a yield: it would fire in whoever is reading us. So each read has its own.
        wait = self._limits.first_byte_s
        while True:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise EngineTimeoutError("the engine took longer than a generation may")
            try:
                async with asyncio.timeout(min(wait, left)):
                    chunk = await response.content.readany()
            except TimeoutError as error:
                raise EngineTimeoutError("the engine fell silent in the middle of an answer") from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise EngineProtocolError("the engine hung up in the middle of an answer") from error
            if not chunk:
                return
            yield chunk
            wait = self._limits.between_bytes_s

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200 and response.content_type == "text/event-stream":
            return
        if response.status == 200:
            raise EngineProtocolError("the engine answered a stream with something else")
        raise errors.of_status(response.status, await self._error_body(response))

    async def _error_body(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            async with asyncio.timeout(self._limits.connect_s):
                return await response.content.read(_ERROR_BODY)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return b""

    def _session(self, slot: str) -> aiohttp.ClientSession:
        session = self._sessions.get(slot)
        if session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(self._socket_of(slot)), force_close=True, limit=0),
                headers=self._headers,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._limits.connect_s, sock_read=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=65_536,
                max_line_size=8_190,
                max_field_size=8_190,
            )
            self._sessions[slot] = session
        return session


def path(order: Order) -> str:
    """Where the engine takes this order: fixed words of ours."""
    return "/v1/completions" if order.prompt.raw else "/v1/chat/completions"


def body(order: Order) -> bytes:
    """The bytes vLLM gets: these fields and no others. Streamed always, so that every end can be told apart."""
    prompt, sampling = order.prompt, order.sampling
    fields: dict[str, Any] = {
        "model": order.model,
        "n": 1,
        "stream": True,
        # Usage with every chunk: a client that leaves in the middle is charged what it really used.
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "priority": order.priority,
        "cache_salt": order.cache_salt,
    }
    if prompt.raw:
        fields["prompt"] = prompt.raw
    else:
        fields["messages"] = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
    for name in ("max_tokens", "temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty"):
        value = getattr(sampling, name)
        if value is not None:
            fields[name] = value
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if sampling.logprobs is not None:
        # The two wires spell it differently.
        fields |= (
            {"logprobs": sampling.logprobs} if prompt.raw else {"logprobs": True, "top_logprobs": sampling.logprobs}
        )
    if prompt.schema is not None:
        fields["structured_outputs"] = {"json": dict(prompt.schema)}
    return json.dumps(fields, ensure_ascii=False).encode()


async def sse_data(chunks: AsyncIterator[bytes], limits: Limits) -> AsyncGenerator[bytes, None]:
    """The data of each server-sent event, with every length bounded before it is kept."""
    rest, event, total = b"", b"", 0
    async for chunk in chunks:
        total += len(chunk)
        if total > limits.total_bytes:
            raise EngineProtocolError("the engine sent more than an answer may hold")
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > limits.line_bytes or any(len(line) > limits.line_bytes for line in lines):
            raise EngineProtocolError("the engine sent a line longer than a line may be")
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if not line:
                if event:
                    yield event
                event = b""
            elif line.startswith(b"data:"):
                event += line[5:].removeprefix(b" ")
                if len(event) > limits.event_bytes:
                    raise EngineProtocolError("the engine sent an event larger than an event may be")
            elif not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise EngineProtocolError("the engine sent something that is not an event stream")
    if event or rest:
        raise EngineProtocolError("the engine stopped in the middle of an event")


async def _pieces(events: AsyncIterator[bytes]) -> AsyncGenerator[Piece, None]:
    """Read events until the end that a whole answer has; the last piece carries the finish and the final usage."""
    usage, finish = Usage(), None
    async for event in events:
        if event == _DONE:
            if finish is None:
                raise EngineProtocolError("the engine ended an answer without a reason")
            yield Piece("", usage, finish)
            return
        try:
            chunk = json.loads(event)
            usage = _usage(chunk) or usage
            text, reason, logprobs = _choice(chunk)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EngineProtocolError("the engine sent an event that cannot be read") from error
        if text and finish is not None:
            raise EngineProtocolError("the engine went on after it had finished")
        finish = finish or reason
        if text:
            yield Piece(text, usage, logprobs=logprobs)
    raise EngineProtocolError("the engine's answer ended before it was finished")


def _choice(chunk: dict[str, Any]) -> tuple[str, Finish | None, tuple[dict[str, Any], ...]]:
    if "error" in chunk:
        raise EngineError("the engine failed in the middle of an answer")
    choices = chunk["choices"]
    if not choices:
        return "", None, ()
    (choice,) = choices
    text = (choice["text"] if "text" in choice else choice["delta"].get("content")) or ""
    if not isinstance(text, str) or choice.get("index", 0) != 0:
        raise TypeError
    reason = choice.get("finish_reason")
    # vLLM says "abort" when it gave up: that is a failure, not a finish, and Finish() refuses it.
    finish = None if reason is None else Finish(reason)
    return text.encode("utf-8", "replace").decode(), finish, _logprobs(choice.get("logprobs"))


def _logprobs(value: Any) -> tuple[dict[str, Any], ...]:
    """One entry for each token, of the fields we know and of the types they have."""
    if value is None:
        return ()
    if "content" in value:
        return tuple(
            _logprob(item) | {"top_logprobs": [_logprob(top) for top in item["top_logprobs"]]}
            for item in value["content"] or ()
        )
    tops = value["top_logprobs"] or [{}] * len(value["tokens"])
    return tuple(
        _named(token, number) | {"top_logprobs": [_named(name, other) for name, other in (top or {}).items()]}
        for token, number, top in zip(value["tokens"], value["token_logprobs"], tops, strict=True)
    )


def _logprob(item: dict[str, Any]) -> dict[str, Any]:
    return _named(item["token"], item["logprob"])


def _named(token: Any, number: Any) -> dict[str, Any]:
    if not isinstance(token, str) or isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError
    text = token.encode("utf-8", "replace")
    return {"token": text.decode(), "logprob": number, "bytes": list(text)}


def _usage(chunk: dict[str, Any]) -> Usage | None:
    found = chunk.get("usage")
    if found is None:
        return None
    counts = found["prompt_tokens"], found["completion_tokens"]
    if not all(type(count) is int and 0 <= count < 2**31 for count in counts):
        raise TypeError
    return Usage(*counts)
