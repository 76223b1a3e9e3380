"""A stand-in for the engine that can be killed every second, and remembers what it was asked.

It answers a prompt with the mark it finds in it, in a few pieces over a second or less. Each request is one line in a
file when it begins and one before its last event is sent: the file outlives the process, and the checker holds the
appliance's books against it. One `write` with O_APPEND per line: a kill cannot tear it, and the kernel keeps it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

MARK = re.compile(rb"mark-[0-9a-f]{16}")
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_ID = re.compile(rb"^x-request-id: (\S+)\r$", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"^content-length: (\d+)\r$", re.IGNORECASE | re.MULTILINE)


class Engine:
    """One process's worth of it."""

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            found, length = _ID.search(head), _LENGTH.search(head)
            if found is None or length is None:
                raise RuntimeError("a request of ours has an id and a length")
            request_id = found[1].decode()
            body = await reader.readexactly(int(length[1]))
            self._note(request_id, "began")
            answering = asyncio.create_task(self._answer(writer, request_id, MARK.findall(body)))
            leaving = asyncio.create_task(reader.read(1))
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            answering.cancel()
            leaving.cancel()
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, request_id: str, marks: list[bytes]) -> None:
        pause = random.uniform(0.02, 0.25)
        texts = ["Noted: ", marks[-1].decode() if marks else "nothing", ". ", "Rest."]
        writer.write(_OK)
        for spent, text in enumerate(texts, 1):
            await asyncio.sleep(pause)  # an engine takes its time; a kill must find it at work
            await _event(writer, json.dumps(_chunk(text, spent)))
        await _event(writer, json.dumps(_chunk("", len(texts), finish="stop")))
        # Before the last word: whoever has read that hangs up, and may be on record first.
        self._note(request_id, "finished")
        await _event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _note(self, request_id: str, what: str) -> None:
        os.write(self._log, json.dumps({"at": time.time(), "id": request_id, "what": what}).encode() + b"\n")


async def _event(writer: asyncio.StreamWriter, text: str) -> None:
    data = f"data: {text}\n\n".encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


def _chunk(text: str, spent: int, finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "x",
        "choices": [{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}],
        "usage": {"prompt_tokens": 11, "completion_tokens": spent, "total_tokens": 11 + spent},
    }


async def main(socket: Path, log: Path) -> None:
    server = await asyncio.start_unix_server(Engine(log).serve, path=str(socket))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    Path(sys.argv[1]).unlink(missing_ok=True)  # a killed one leaves its socket behind
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
