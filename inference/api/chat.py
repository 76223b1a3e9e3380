"""`POST /v1/chat/completions`: parse, run flow B, write the answer; stop everything when the caller leaves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from inference.api import document, schemas, sse
from inference.api.answering import caller_of, while_listening, whole
from inference.api.desk import Desk
from inference.api.exchange import Exchange
from inference.engines.engine import Piece
from inference.policy import tools as envelopes
from inference.policy.ask import Ask
from inference.policy.rules import Rights
from inference.serve import Caller, Done, Opened, answer


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """The answer, streamed or whole."""
    caller = caller_of(exchange, rights)
    request = schemas.chat(document.parse(await exchange.body()))
    write = _stream if request.stream else _whole
    await while_listening(exchange, desk, caller, write(exchange, desk, request, caller))


async def _whole(exchange: Exchange, desk: Desk, request: schemas.ChatRequest, caller: Caller) -> None:
    found = await whole(request.ask, caller=caller, desk=desk)
    logprobs = [item for piece in found.pieces for item in piece.logprobs]
    await exchange.reply(200, sse.completion(_read(request.ask, found.pieces), found.done, logprobs))


async def _stream(exchange: Exchange, desk: Desk, request: schemas.ChatRequest, caller: Caller) -> None:
    chunks: sse.Chunks | None = None
    held: list[Piece] = []
    called = envelopes.offered(request.ask.tools, request.ask.tool_choice)
    async with aclosing(answer(request.ask, caller=caller, house=desk.house)) as steps:
        async for step in steps:
            if isinstance(step, Opened):
                chunks = sse.Chunks(step.receipt, include_usage=request.include_usage)
                continue
            if chunks is None:
                raise RuntimeError("text before the intent was on record")
            if not exchange.started:
                # Not before the engine's first word: until then a refusal can still have its own status.
                await exchange.stream()
                exchange.hold(chunks.opening())
            if isinstance(step, Done):
                await exchange.end(_end(chunks, request.ask, held, step))
            elif called:
                held.append(step)  # an envelope means something only once it is closed
            else:
                if step.text:
                    exchange.hold(chunks.text(step))
                if not step.more:
                    await exchange.event()


def _end(chunks: sse.Chunks, ask: Ask, held: list[Piece], done: Done) -> bytes:
    if not held:
        return chunks.closing(done)
    found = _read(ask, held)
    if found.call is not None:
        return chunks.called(found.call) + chunks.closing(done, called=True)
    return chunks.text(Piece(found.text, done.usage)) + chunks.closing(done)


def _read(ask: Ask, pieces: Sequence[Piece]) -> envelopes.Answer:
    text = "".join(piece.text for piece in pieces)
    return envelopes.read(text) if envelopes.offered(ask.tools, ask.tool_choice) else envelopes.Answer(text=text)
