"""One question to an engine over its unix socket, and the answer as it comes, within bounds. Then the connection is gone.

Decides what of HTTP is believed: one response, its status, its media type and its body; nothing else is kept. What the
body means is `vllm` and `whole`. Our own and not a client library, because the library was most of what a request cost
(docs/decisions/0017); the parser is llhttp, which the library used too.

- Bounded are the head, all bytes together, what nobody has read yet, the first byte, each pause and the whole time.
- One timer per answer watches the three times: one for each read would cost more than the read. While it is the engine
  that waits for us, only the whole time runs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import httptools

from inference.engines.errors import EngineError, EngineProtocolError, EngineTimeoutError, EngineUnavailableError

_HEAD_BYTES = 32_768
_UNREAD_BYTES = 262_144


@dataclass(frozen=True)
class Bounds:
    """What one answer may cost us, whatever the engine does."""

    first_byte_s: float
    between_bytes_s: float
    total_s: float
    total_bytes: int


class Answer(asyncio.Protocol):
    """One response. `read` gives its body in the pieces in which it came. Whoever asks must close it."""

    def __init__(self, bounds: Bounds) -> None:
        self.status = 0
        self.media_type = ""
        self._bounds = bounds
        self._loop = loop = asyncio.get_running_loop()
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._unread = self._received = 0
        self._paused = self._begun = self._complete = self._left = False
        self._failure: EngineError | None = None
        self._waiter: asyncio.Future[None] | None = None
        now = loop.time()
        self._end = now + bounds.total_s
        self._patience = min(now + bounds.first_byte_s, self._end)
        self._watch = loop.call_at(self._next_look(now, self._patience), self._look)

    async def ask(self, socket: str, request: bytes) -> None:
        """Send the request; return when the head of the answer is there, EngineError otherwise."""
        try:
            # A unix socket takes a connection at once or not at all: there is nothing to wait for.
            transport, _ = await self._loop.create_unix_connection(lambda: self, socket)
        except OSError as error:
            raise EngineUnavailableError("the engine cannot be reached") from error
        transport.write(request)
        while not self.status:
            if self._failure is not None:
                raise self._failure
            await self._news()

    async def read(self) -> bytes:
        """What came since the last time; b"" when the body is complete."""
        while not self._parts:
            if self._failure is not None:
                raise self._failure
            if self._complete:
                return b""
            await self._news()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._unread = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._be_patient()
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """Hang up now: an unread rest must never be met by another request, and it makes vLLM stop generating."""
        self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
            # Each of the three holds the others: let go, they are freed now and not by the collector, which stops everybody.
            self._transport = self._parser = None

    def leave(self) -> None:
        """All that matters was read. The engine may end its answer; hung up on now, it would count as given up."""
        self._left = True
        if self._complete:
            self.close()

    async def _news(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, failure: EngineError) -> None:
        if self._failure is None and not self._complete:
            self._failure = failure
        self.close()
        self._wake()

    def _be_patient(self) -> None:
        """Bytes came. The first of the body may take as long as the first of the head: the prompt is read in between."""
        wait = self._bounds.between_bytes_s if self._begun else self._bounds.first_byte_s
        self._patience = min(self._loop.time() + wait, self._end)

    def _next_look(self, now: float, until: float) -> float:
        # Not later than one pause from now: the patience may have become shorter by then, but never by more.
        return min(until, now + self._bounds.between_bytes_s)

    def _look(self) -> None:
        """The timer: too late, or armed anew."""
        until, now = self._end if self._paused else self._patience, self._loop.time()
        if now < until:
            self._watch = self._loop.call_at(self._next_look(now, until), self._look)
        elif until >= self._end:
            self._fail(EngineTimeoutError("the engine took longer than a generation may"))
        elif self.status:
            self._fail(EngineTimeoutError("the engine fell silent in the middle of an answer"))
        else:
            self._fail(EngineTimeoutError("the engine did not begin to answer in time"))

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its name

    def data_received(self, data: bytes) -> None:
        if self._complete or self._failure is not None or self._parser is None:
            return  # it goes on after its end: nobody reads that
        self._received += len(data)
        if self._received > self._bounds.total_bytes:
            self._fail(EngineProtocolError("the engine sent more than an answer may hold"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            failure = EngineProtocolError("the engine's answer is not HTTP")
            failure.__cause__ = error
            self._fail(failure)
            return
        if not self.status and self._received > _HEAD_BYTES:
            self._fail(EngineProtocolError("the engine's answer has no end to its head"))
            return
        self._be_patient()
        if self._unread > _UNREAD_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, _exc: Exception | None) -> None:
        if self.status:
            self._fail(EngineProtocolError("the engine hung up in the middle of an answer"))
        else:
            self._fail(EngineUnavailableError("the engine hung up before it answered"))

    # --- what the parser calls

    def on_message_begin(self) -> None:
        if self.status:
            raise EngineProtocolError("the engine sent a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.media_type = value.partition(b";")[0].strip().lower().decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code() if self._parser is not None else 0

    def on_body(self, body: bytes) -> None:
        self._begun = True
        self._parts.append(body)
        self._unread += len(body)

    def on_message_complete(self) -> None:
        self._complete = True
        if self._left:
            self._loop.call_soon(self.close)  # not from within the parser
