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
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from inference.engines import errors, events, wire
from inference.engines.engine import Order, Piece
from inference.engines.errors import EngineError, EngineProtocolError
from inference.engines.events import sse_data
from inference.engines.whole import Whole

__all__ = ["Limits", "Vllm", "body", "path", "sse_data"]

_ERROR_BODY = 65_536
_encode = msgspec.json.Encoder(enc_hook=float).encode  # a number of a schema that knows its spelling is a number
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True)
class Limits:
    """What one generation may cost us, whatever the engine does."""

    error_s: float = 2.0
    first_byte_s: float = 120.0
    between_bytes_s: float = 60.0
    total_s: float = 600.0
    line_bytes: int = 65_536
    event_bytes: int = 1_048_576
    total_bytes: int = 67_108_864


class Vllm:
    """A client for the engines of this box, one socket per slot."""

    def __init__(self, *, socket_of: Callable[[str], Path], api_key: str, limits: Limits | None = None) -> None:
        self._socket_of = lru_cache(maxsize=4)(lambda slot: str(socket_of(slot)))
        self._whole = Whole(socket_of=socket_of, api_key=api_key)
        self._limits = limits or Limits()
        self._bounds = wire.Bounds(
            first_byte_s=self._limits.first_byte_s,
            between_bytes_s=self._limits.between_bytes_s,
            total_s=self._limits.total_s,
            total_bytes=self._limits.total_bytes,
        )
        self._headers = (
            "Host: engine\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {api_key}\r\nConnection: close\r\n"
        )

    async def generate(self, order: Order) -> AsyncGenerator[Piece, None]:
        """The answer piece by piece; closing the iterator closes the connection."""
        if self._whole.takes(order):
            async with aclosing(self._whole.generate(order)) as answers:
                async for piece in answers:
                    yield piece
            return
        answer, reading = wire.Answer(self._bounds), events.Reading(self._limits)
        try:
            await answer.ask(self._socket_of(order.slot), self._request(order))
            await self._check(answer)
            while data := await answer.read():
                for piece in reading.pieces(data):
                    yield piece
                if reading.failure is not None:
                    raise reading.failure
                if reading.done:
                    return
            raise EngineProtocolError("the engine's answer ended before it was finished")
        finally:
            if reading.done:
                answer.leave()
            else:
                answer.close()

    async def close(self) -> None:
        """Nothing is kept between two requests."""

    def _request(self, order: Order) -> bytes:
        if not _ID.fullmatch(order.request_id):
            raise RuntimeError("a request id that is not one of ours would become a line of the request")
        data = body(order)
        head = f"POST {path(order)} HTTP/1.1\r\n{self._headers}X-Request-Id: {order.request_id}\r\n"
        return b"%sContent-Length: %d\r\n\r\n%s" % (head.encode("ascii"), len(data), data)

    async def _check(self, answer: wire.Answer) -> None:
        if answer.status == 200 and answer.media_type == "text/event-stream":
            return
        if answer.status == 200:
            raise EngineProtocolError("the engine answered a stream with something else")
        raise errors.of_status(answer.status, await self._error_body(answer))

    async def _error_body(self, answer: wire.Answer) -> bytes:
        said = b""
        with suppress(TimeoutError, EngineError):
            async with asyncio.timeout(self._limits.error_s):
                while len(said) < _ERROR_BODY and (part := await answer.read()):
                    said += part
        return said


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
    return _encode(fields)
