"""From the bytes of a stream to pieces of an answer: server-sent events, each a chunk of vLLM's, each of known types.

Decides when a stream is whole: a finish reason, then [DONE]. Everything else is an EngineError, however much text came
before it. No connection here, and nothing to wait for: bytes in, pieces out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Annotated, Any, Literal, Protocol

import msgspec

from inference.engines.engine import Finish, Piece, Usage
from inference.engines.errors import EngineError, EngineProtocolError

_DONE = b"[DONE]"
_FINISH = {None: None, "stop": Finish.STOP, "length": Finish.LENGTH}
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Limits(Protocol):
    """How long a line, an event and a stream may be."""

    @property
    def line_bytes(self) -> int: ...
    @property
    def event_bytes(self) -> int: ...
    @property
    def total_bytes(self) -> int: ...


class _Usage(msgspec.Struct):
    prompt_tokens: _Count
    completion_tokens: _Count


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    # vLLM says "abort" when it gave up: that is a failure and no finish, so it is no reason here.
    finish_reason: Literal["stop", "length"] | None = None
    index: Literal[0] = 0
    delta: _Delta | None = None
    text: str | None = None
    logprobs: Any = None


class _Chunk(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(max_length=1)] | msgspec.UnsetType = msgspec.UNSET
    usage: _Usage | None = None
    error: Any = msgspec.UNSET


_decode = msgspec.json.Decoder(_Chunk).decode


class Events:
    """The data of each server-sent event, with every length bounded before it is kept."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._longest = min(limits.line_bytes, limits.event_bytes)
        self._rest = self._event = b""
        self._total = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that ended with this chunk."""
        self._total += len(chunk)
        if self._total > self._limits.total_bytes:
            raise EngineProtocolError("the engine sent more than an answer may hold")
        return self._plain(chunk) or self._any(chunk)

    def end(self) -> None:
        if self._event or self._rest:
            raise EngineProtocolError("the engine stopped in the middle of an event")

    def _plain(self, chunk: bytes) -> list[bytes]:
        """Whole events of one data line each, as vLLM writes them; nothing when there is anything else in it."""
        if self._rest or self._event or not chunk.endswith(b"\n\n") or b"\r" in chunk:
            return []
        longest = self._longest
        if chunk.startswith(b"data: ") and chunk.find(b"\n") == len(chunk) - 2 and len(chunk) - 2 <= longest:
            return [chunk[6:-2]]  # one event, as it comes when the engine is not faster than we are
        blocks = chunk[:-2].split(b"\n\n")
        for block in blocks:
            if not block.startswith(b"data: ") or b"\n" in block or len(block) > longest:
                return []
        return [block[6:] for block in blocks]

    def _any(self, chunk: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        longest = self._limits.line_bytes
        if len(self._rest) > longest or any(len(line) > longest for line in lines):
            raise EngineProtocolError("the engine sent a line longer than a line may be")
        found: list[bytes] = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if not line:
                if self._event:
                    found.append(self._event)
                self._event = b""
            elif line.startswith(b"data:"):
                self._event += line[5:].removeprefix(b" ")
                if len(self._event) > self._limits.event_bytes:
                    raise EngineProtocolError("the engine sent an event larger than an event may be")
            elif not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise EngineProtocolError("the engine sent something that is not an event stream")
        return found


async def sse_data(chunks: AsyncIterator[bytes], limits: Limits) -> AsyncGenerator[bytes, None]:
    """The same, over a stream of chunks."""
    events = Events(limits)
    async for chunk in chunks:
        for event in events.feed(chunk):
            yield event
    events.end()


class Reading:
    """One answer while it is read. The last piece carries the finish and the final usage."""

    def __init__(self, limits: Limits) -> None:
        self.done = False
        self.failure: EngineError | None = None
        """What is wrong behind the pieces that were read last."""
        self._events = Events(limits)
        self._usage = Usage()
        self._finish: Finish | None = None

    def pieces(self, data: bytes) -> list[Piece]:
        """What came with these bytes; each but the last says that more came with it."""
        found: list[tuple[str, Usage, Finish | None, tuple[Mapping[str, Any], ...]]] = []
        try:
            for event in self._events.feed(data):
                if event == _DONE:
                    if self._finish is None:
                        raise EngineProtocolError("the engine ended an answer without a reason")
                    self.done = True
                    found.append(("", self._usage, self._finish, ()))
                    break
                text, logprobs = self._chunk(event)
                if text:
                    found.append((text, self._usage, None, logprobs))
        except EngineError as error:
            self.failure = error
        last = len(found) - 1
        return [
            Piece(text, usage, finish, logprobs, more=at < last)
            for at, (text, usage, finish, logprobs) in enumerate(found)
        ]

    def _chunk(self, event: bytes) -> tuple[str, tuple[Mapping[str, Any], ...]]:
        """The text of one chunk; its usage and its reason are kept."""
        try:
            chunk = _decode(event)
            choice = chunk.choices[0] if chunk.choices else None
            logprobs = () if choice is None or choice.logprobs is None else _logprobs(choice.logprobs)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EngineProtocolError("the engine sent an event that cannot be read") from error
        if chunk.error is not msgspec.UNSET:
            raise EngineError("the engine failed in the middle of an answer")
        if chunk.choices is msgspec.UNSET:
            raise EngineProtocolError("the engine sent an event that is no part of an answer")
        if chunk.usage is not None:
            self._usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        if choice is None:
            return "", ()
        text = (choice.delta.content if choice.delta is not None else choice.text) or ""
        if text and self._finish is not None:
            raise EngineProtocolError("the engine went on after it had finished")
        self._finish = self._finish or _FINISH[choice.finish_reason]
        return text, logprobs


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
