"""An engine on a unix socket that is slow, broken or hostile on demand. Real vLLM is the engine of the flows.

It records every byte it was sent, and whether the other side hung up before it had finished.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.simulators.obedient import instance

Behaviour = Callable[[asyncio.StreamWriter], Coroutine[None, None, None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Seen:
    """One request as it came over the wire."""

    head: bytes
    body: bytes
    cut: bool = False
    ended_at: float = 0.0
    """Of `time.monotonic`."""

    @property
    def fields(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode()

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]

    @property
    def headers(self) -> dict[str, str]:
        pairs = (line.decode().split(": ", 1) for line in self.head.split(b"\r\n")[1:] if line)
        return {name.lower(): value for name, value in pairs}


@dataclass
class EngineStandIn:
    """Listens on `path`; `behave` names how the next requests are answered."""

    path: Path
    behave: str = "answer"
    tokens: tuple[str, ...] = ("The ", "patient ", "is ", "well.")
    pause_s: float = 0.0
    vector: tuple[float, ...] = (0.5, -0.25, 1.0)
    finish: str = "stop"
    transcript: str = "The patient is well."
    says: bytes = b"{}"
    seen: list[Seen] = field(default_factory=list)
    now: int = 0
    most: int = 0
    held: int = 0

    def start(self) -> EngineStandIn:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._loop = asyncio.new_event_loop()
        self._go = asyncio.Event()
        ready = threading.Event()

        async def listen() -> None:
            self._server = await asyncio.start_unix_server(self._serve, path=str(self.path), backlog=4096)
            ready.set()

        self._loop.create_task(listen())
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        if not ready.wait(5):
            raise RuntimeError("the stand-in did not start")
        return self

    def stop(self) -> None:
        async def end() -> None:
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        self.path.unlink(missing_ok=True)

    def let_go(self) -> None:
        """Let every answer that waits for its last token have it."""
        self._loop.call_soon_threadsafe(self._go.set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(
            next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-le"))
        )
        seen = Seen(head, await reader.readexactly(length))
        self.seen.append(seen)
        self.now += 1
        self.most = max(self.most, self.now)
        finished = asyncio.create_task(self._behaviour(seen)(writer))
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({finished, gone}, return_when=asyncio.FIRST_COMPLETED)
            seen.cut = not finished.done()
            if finished.done() and not finished.cancelled():
                seen.cut = finished.exception() is not None
        finally:
            seen.ended_at = time.monotonic()
            self.now -= 1
            finished.cancel()
            gone.cancel()
            writer.close()

    def _behaviour(self, seen: Seen) -> Behaviour:
        if self.behave in {"echo", "obey"}:
            return partial(getattr(self, f"_{self.behave}"), seen=seen)
        whole = {"/v1/embeddings": "embed", "/v1/audio/transcriptions": "transcribe"}.get(seen.path)
        found: Behaviour = getattr(self, f"_{whole if whole and self.behave == 'answer' else self.behave}")
        return found

    # --- the good ones

    async def _embed(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.pause_s)
        vector = base64.b64encode(struct.pack(f"<{len(self.vector)}f", *self.vector)).decode()
        texts = self.seen[-1].fields["input"]
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(texts))]
        usage = {"prompt_tokens": 7, "total_tokens": 7, "completion_tokens": 0}
        await _json(writer, 200, {"id": "embd-INTERNAL", "data": data[::-1], "usage": usage})

    async def _transcribe(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.pause_s)
        await _json(writer, 200, {"text": self.transcript, "usage": {"type": "duration", "seconds": 3}})

    async def _say(self, writer: asyncio.StreamWriter) -> None:
        """Whatever a test wants said, as JSON."""
        head = f"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: {len(self.says)}\r\n\r\n"
        await _send(writer, head.encode() + self.says)

    async def _endless_json(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK.replace(b"text/event-stream; charset=utf-8", b"application/json"))
        while True:
            await _raw(writer, b" " * 50_000)

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await self._tokens(writer)
        await _events(writer, self._chunk("", self.finish), self._usage(), "[DONE]")
        await _send(writer, b"0\r\n\r\n")

    async def _echo(self, writer: asyncio.StreamWriter, *, seen: Seen) -> None:
        """The canary of the very request, once for each token; the last only when `let_go` was called."""
        (canary,) = set(re.findall(rb"canary-[0-9a-f]{16}", seen.body))
        await _send(writer, OK)
        await _events(writer, self._chunk(None, role=True))
        for index in range(len(self.tokens)):
            if index == len(self.tokens) - 1:
                self.held += 1
                await self._go.wait()
            await _events(writer, self._chunk(f"{canary.decode()}.{index} ", spent=index + 1))
        await _events(writer, self._chunk("", "stop"), self._usage(), "[DONE]")
        await _send(writer, b"0\r\n\r\n")

    async def _obey(self, writer: asyncio.StreamWriter, *, seen: Seen) -> None:
        """JSON of the form that the request asks for, in pieces; words when it asks for none."""
        wanted = seen.fields.get("structured_outputs")
        text = "The patient is well." if wanted is None else json.dumps(instance(wanted["json"]))
        await _send(writer, OK)
        for index in range(0, len(text), 5):
            await _events(writer, self._chunk(text[index : index + 5], spent=index // 5 + 1))
        await _events(writer, self._chunk("", "stop"), self._usage(), "[DONE]")
        await _send(writer, b"0\r\n\r\n")

    async def _flood(self, writer: asyncio.StreamWriter) -> None:
        """More than sockets hold on the way to a reader that takes nothing, and in few events."""
        await _send(writer, OK)
        for _ in range(100):
            await _events(writer, self._chunk("word " * 10_000))

    async def _tokens(self, writer: asyncio.StreamWriter) -> None:
        await _events(writer, self._chunk(None, role=True))
        for index, token in enumerate(self.tokens, 1):
            await asyncio.sleep(self.pause_s)
            await _events(writer, self._chunk(token, spent=index))

    def _chunk(
        self, text: str | None, finish: str | None = None, *, role: bool = False, spent: int = 0
    ) -> dict[str, Any]:
        delta = {"role": "assistant", "content": ""} if role else {"content": text}
        said = {"text": text or ""} if self.seen[-1].path == "/v1/completions" else {"delta": delta}
        return {
            "id": "chatcmpl-INTERNAL",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "INTERNAL-model",
            "choices": [
                {
                    "index": 0,
                    **said,
                    "logprobs": self._logprobs(text),
                    "finish_reason": finish,
                    "token_ids": ["INTERNAL"],
                }
            ],
            "usage": {"prompt_tokens": 11, "total_tokens": 11 + spent, "completion_tokens": spent},
            "kv_transfer_params": "INTERNAL",
        }

    def _logprobs(self, text: str | None) -> dict[str, Any] | None:
        """In the form of the endpoint that was asked, when they were asked for."""
        if not text or "logprobs" not in self.seen[-1].fields:
            return None
        if self.seen[-1].path == "/v1/completions":
            return {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [{text: -0.5}], "text_offset": [0]}
        alone = {"token": text, "logprob": -0.5, "bytes": list(text.encode())}
        return {"content": [{**alone, "top_logprobs": [alone]}]}

    def _usage(self) -> dict[str, Any]:
        count = len(self.tokens)
        usage = {"prompt_tokens": 11, "total_tokens": 11 + count, "completion_tokens": count}
        return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": [], "usage": usage}

    # --- the others

    async def _infinite_header(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, b"HTTP/1.1 200 OK\r\n")
        while True:
            await _send(writer, b"x-more: " + b"a" * 1000 + b"\r\n")

    async def _endless_header_line(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, b"HTTP/1.1 200 OK\r\nx-more: ")
        while True:
            await _send(writer, b"a" * 10_000)

    async def _no_newline(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        while True:
            await _raw(writer, b"data: " + b"a" * 50_000)

    async def _endless_event(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        while True:
            await _raw(writer, b"data: " + b"a" * 50_000 + b"\n")

    async def _endless_answer(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        while True:
            await _events(writer, *[self._chunk("word " * 1000)] * 8)

    async def _garbage(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await _raw(writer, b"\x00\xff\xfe not an event\n\n")

    async def _not_http(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, b"SSH-2.0-OpenSSH_9.2\r\n")

    async def _bad_json(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await _raw(writer, b"data: {not json\n\n")

    async def _deep_json(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await _raw(writer, b"data: " + b"[" * 60_000 + b"\n\n")

    async def _wrong_types(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await _events(writer, {"choices": [{"index": 0, "delta": {"content": {"a": 1}}, "finish_reason": None}]})

    async def _no_done(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await self._tokens(writer)
        await _events(writer, self._chunk("", "stop"))
        await _send(writer, b"0\r\n\r\n")

    async def _done_without_finish(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await self._tokens(writer)
        await _events(writer, "[DONE]")
        await _send(writer, b"0\r\n\r\n")

    async def _aborted(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await self._tokens(writer)
        await _events(writer, self._chunk("", "abort"), "[DONE]")
        await _send(writer, b"0\r\n\r\n")

    async def _error_event(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await self._tokens(writer)
        await _events(writer, {"error": {"message": "INTERNAL EngineDeadError", "code": 500}}, "[DONE]")
        await _send(writer, b"0\r\n\r\n")

    async def _error_200(self, writer: asyncio.StreamWriter) -> None:
        await _json(writer, 200, {"error": {"message": "INTERNAL"}})

    async def _error_500(self, writer: asyncio.StreamWriter) -> None:
        await _json(writer, 500, {"error": {"message": "INTERNAL traceback"}})

    async def _error_400(self, writer: asyncio.StreamWriter) -> None:
        await _json(writer, 400, {"error": {"message": "INTERNAL bad parameter"}})

    async def _too_long(self, writer: asyncio.StreamWriter) -> None:
        message = "This model's maximum context length is 1024 tokens. However, INTERNAL"
        await _json(writer, 400, {"error": {"message": message}})

    async def _redirect(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n")

    async def _close_in_the_middle(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await self._tokens(writer)
        await _raw(writer, b'data: {"id": "chatcmpl-1", "choi')
        writer.transport.abort()

    async def _hang(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def _hang_in_the_middle(self, writer: asyncio.StreamWriter) -> None:
        await _send(writer, OK)
        await self._tokens(writer)
        await asyncio.Event().wait()


HOSTILE = {
    "infinite_header": "engine_protocol",
    "endless_header_line": "engine_protocol",
    "no_newline": "engine_protocol",
    "endless_event": "engine_protocol",
    "endless_answer": "engine_protocol",
    "garbage": "engine_protocol",
    "not_http": "engine_protocol",
    "bad_json": "engine_protocol",
    "deep_json": "engine_protocol",
    "wrong_types": "engine_protocol",
    "no_done": "engine_protocol",
    "done_without_finish": "engine_protocol",
    "aborted": "engine_protocol",
    "error_event": "engine_failed",
    "error_200": "engine_protocol",
    "error_500": "engine_failed",
    "error_400": "engine_refused",
    "redirect": "engine_failed",
    "close_in_the_middle": "engine_protocol",
    "too_long": "context_length",
    "hang": "engine_timeout",
    "hang_in_the_middle": "engine_timeout",
}
"""Each way to be broken, and the code it must get."""


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _raw(writer: asyncio.StreamWriter, data: bytes) -> None:
    await _send(writer, f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def _events(writer: asyncio.StreamWriter, *events: dict[str, Any] | str) -> None:
    for event in events:
        text = event if isinstance(event, str) else json.dumps(event)
        await _raw(writer, f"data: {text}\n\n".encode())


async def _json(writer: asyncio.StreamWriter, status: int, value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    await _send(writer, head.encode() + body)
