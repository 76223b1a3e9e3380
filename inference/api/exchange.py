"""One HTTP exchange over raw ASGI: reads the request within limits, writes the answer, and knows when the caller left.

Decides what an acceptable message is before anybody looks at its meaning (BAD_INPUTS.md group F). Paths are compared
byte for byte: one that was percent-encoded is not one of ours.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, MutableMapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from inference.api.errors import BadRequestError, Refusal
from inference.api.fields import Fields

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_HOST = re.compile(r"([^:]+)(?::([1-9][0-9]{0,4}))?")

_encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes a new one for each answer

LARGEST_BODY = 1_048_576
SLOWEST_BODY_S = 20.0
_MOST_QUERY = 8
SLOWEST_READER_S = 30.0


class CallerLeftError(Exception):
    """Nobody is listening any more."""


def _nobody() -> None:
    pass


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.request_id = f"req_{secrets.token_hex(12)}"
        self.peer: tuple[str, int] | None = scope.get("client") or None
        """Who connected over TCP; None over our unix socket, where nginx speaks for whoever it is."""
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._query: bytes = scope.get("query_string", b"")
        self._raw_path: bytes = scope.get("raw_path") or self.path.encode()
        self._headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            self._headers.setdefault(name.lower(), []).append(value)
        self.started = False
        self.capacity = ""
        """Said on every answer while the box can do less than usual: `reduced` or `none`."""
        self.failure: Callable[[Refusal], bytes] | None = None
        """How a stream that is under way says that it broke off; OpenAI's error event when it is not set."""
        self.has_words = True
        """Whether what is under way has a place for a refusal; the bytes of a file have none."""
        self.when_left: Callable[[], None] = _nobody
        """Told at once when writing finds that nobody reads, before the work is undone."""
        self._held: list[bytes] = []
        self._writer: asyncio.Task[Any] | None = None
        self._since = 0.0
        self._stalled = False
        self._watch: asyncio.TimerHandle | None = None

    def header(self, name: bytes) -> str | None:
        """The one value of a header; None when it is missing or came more than once."""
        values = self._headers.get(name, [])
        return values[0].decode("latin-1") if len(values) == 1 else None

    def has(self, name: bytes) -> bool:
        return name in self._headers

    def check_target(self, allowed_hosts: Collection[str]) -> None:
        """One Host, one of ours (F90); a path that needs no decoding (F91)."""
        host = self.header(b"host")
        match = _HOST.fullmatch(host or "")
        if match is None or match[1] not in allowed_hosts or int(match[2] or 80) > 65_535:
            raise BadRequestError("bad_host", "the Host header is not a name of this appliance")
        if self._raw_path.split(b"?")[0] != self.path.encode():
            raise BadRequestError("not_found", "there is nothing at that path")

    def query(self) -> Fields:
        """What stands behind the question mark, each name once."""
        try:
            pairs = parse_qsl(
                self._query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(self._query), errors="strict",
                max_num_fields=_MOST_QUERY,
            )  # fmt: skip
        except ValueError:
            raise BadRequestError("out_of_range", "the query is not a short list of names and values") from None
        if len(dict(pairs)) != len(pairs):
            raise BadRequestError("duplicate_key", "the query names a field twice")
        return Fields(dict(pairs), "")

    async def body(self) -> bytes:
        """The whole body, if it is JSON by its own word, small enough and soon enough."""
        media, _, parameters = (self.header(b"content-type") or "").partition(";")
        charset = parameters.strip().lower()
        if media.strip().lower() != "application/json" or charset not in {"", "charset=utf-8"}:
            raise BadRequestError("unsupported_media_type", "send Content-Type: application/json")
        return b"".join([part async for part in self.parts(most=LARGEST_BODY, within_s=SLOWEST_BODY_S)])

    async def read(self, take: Callable[[bytes], object], *, most: int, within_s: float) -> None:
        """Hand on the body as it comes, of whatever type: no more than `most` bytes, and all of it within the time."""
        async for part in self.parts(most=most, within_s=within_s):
            take(part)

    async def parts(self, *, most: int, within_s: float) -> AsyncIterator[bytes]:
        """The same, for whoever stores each part before asking for the next; the time for that counts too."""
        self._check_length(most)
        size, until = 0, asyncio.get_running_loop().time() + within_s
        while True:
            try:
                async with asyncio.timeout_at(until):
                    message = await self._receive()
            except TimeoutError:
                raise BadRequestError("body_timeout", "the body did not arrive in time") from None
            if message["type"] == "http.disconnect":
                raise CallerLeftError
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > most:
                raise BadRequestError("body_too_large", f"a body has at most {most} bytes here")
            yield part
            if not message.get("more_body", False):
                return

    def _check_length(self, most: int) -> None:
        if self.has(b"content-encoding"):
            raise BadRequestError("unsupported_media_type", "send the body without a Content-Encoding")
        if int(self.header(b"content-length") or "0") > most:
            raise BadRequestError("body_too_large", f"a body has at most {most} bytes here")

    async def left(self) -> None:
        """Return when the caller has gone. Only after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def reply(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        """A whole JSON answer."""
        await self._whole(status, b"application/json", _encode(value).encode(), headers or {})

    async def text(self, value: str, headers: dict[str, str]) -> None:
        """A whole answer in plain words."""
        await self._whole(200, b"text/plain; charset=utf-8", value.encode(), headers)

    async def refuse(self, refusal: Refusal) -> None:
        """A refusal in OpenAI's shape."""
        headers = {}
        if refusal.allow:
            headers["allow"] = refusal.allow
        if refusal.retry_after_s is not None:
            headers["retry-after"] = str(refusal.retry_after_s)
        if refusal.status == 401:
            headers["www-authenticate"] = "Bearer"
        if refusal.status in {408, 413}:
            headers["connection"] = "close"  # the rest of that body must not be read as a request
        if refusal.status == 409:
            headers["x-should-retry"] = "false"  # OpenAI's clients would ask again
        await self.reply(refusal.status, refusal.body(self.request_id), headers)

    async def stream(self) -> None:
        """Begin a stream of events."""
        await self._start(200, b"text/event-stream; charset=utf-8", {"x-accel-buffering": "no"})

    async def download(self) -> None:
        """Begin a body of bytes whose length is not known yet; `event` sends some of it."""
        self.has_words = False
        await self._start(200, b"application/octet-stream", {})

    def hold(self, data: bytes) -> None:
        """Bytes that wait for the next event: what came together leaves together."""
        self._held.append(data)

    async def event(self, data: bytes = b"") -> None:
        """One event, with what was held before it."""
        if data:
            self._held.append(data)
        if self._held:
            await self._push(self._take_held(), more=True)

    async def end(self, data: bytes = b"") -> None:
        """The last of it, and the end."""
        if data:
            self._held.append(data)
        await self._push(self._take_held(), more=False)

    def close(self) -> None:
        """Nothing more will be written, and nobody is told of it."""
        self.when_left = _nobody
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _take_held(self) -> bytes:
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        return data

    async def _whole(self, status: int, media: bytes, body: bytes, headers: dict[str, str]) -> None:
        await self._start(status, media, {**headers, "content-length": str(len(body))})
        await self._push(b"" if self.method == "HEAD" else body, more=False)

    async def _start(self, status: int, media: bytes, headers: dict[str, str]) -> None:
        self.started = True
        listed = [
            (b"content-type", media),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-request-id", self.request_id.encode()),
            *([(b"x-isoward-capacity", self.capacity.encode())] if self.capacity else []),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": listed})

    async def _push(self, data: bytes, *, more: bool) -> None:
        """Write, unless the reader takes nothing for so long that it holds a place in the engine for nobody (T16)."""
        loop = asyncio.get_running_loop()
        self._writer, self._since = asyncio.current_task(), loop.time()
        if self._watch is None:
            # One timer for all events: nearly every write returns at once, and a timeout costs as much as the write.
            self._watch = loop.call_at(self._since + SLOWEST_READER_S, self._look)
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except asyncio.CancelledError:
            if not self._stalled or self._writer is None or self._writer.uncancel() > 0:
                raise
            self._lost()
        except OSError:
            self._lost()
        finally:
            self._writer = None

    def _lost(self) -> NoReturn:
        self.when_left()
        raise CallerLeftError from None

    def _look(self) -> None:
        """The timer: a write that began too long ago is given up; otherwise armed for when it would be."""
        loop = asyncio.get_running_loop()
        self._watch = None
        if self._writer is None:
            return
        if loop.time() - self._since < SLOWEST_READER_S:
            self._watch = loop.call_at(self._since + SLOWEST_READER_S, self._look)
            return
        self._stalled = True
        self._writer.cancel()
