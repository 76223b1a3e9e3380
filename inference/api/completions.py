"""`POST /v1/completions`: a bare text goes on, in OpenAI's older form, for the task `conversation`.

The official client has no `metadata` here: task and purpose travel in its `extra_body`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from inference.api import document, schemas, sse
from inference.api.answering import caller_of, while_listening, whole
from inference.api.desk import Desk
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.api.fields import Fields
from inference.api.turns import LONGEST_TURN
from inference.policy.ask import Ask
from inference.policy.rules import Rights
from inference.serve import Caller, Done, Opened, Receipt, answer


@dataclass(frozen=True)
class _Request:
    """A parsed body: what is asked, and how the caller wants to be answered."""

    ask: Ask
    stream: bool
    include_usage: bool


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """The answer, streamed or whole."""
    caller = caller_of(exchange, rights)
    request = _parse(document.parse(await exchange.body()))
    write = _stream if request.stream else _whole
    await while_listening(exchange, desk, caller, write(exchange, desk, request, caller))


def _parse(value: Any) -> _Request:
    fields = Fields(value, "")
    drawn = schemas.sampling(fields, logprobs=fields.integer("logprobs", 0, schemas.MOST_LOGPROBS))
    model = fields.text("model", required=True)
    about = schemas.labels(fields)
    stream = fields.flag("stream")
    include_usage = schemas.stream_options(fields, stream=stream)
    fields.integer("best_of", 1, 1)
    if fields.flag("echo"):
        raise fields.range("echo", "false")
    prompt = _prompt(fields)
    fields.end()
    return _Request(about.ask(model, prompt=prompt, sampling=drawn), stream, include_usage)


def _prompt(fields: Fields) -> str:
    """One text; a list is taken when it holds one, as LangChain sends it. Token ids are not taken."""
    value = fields.required("prompt")
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not isinstance(value, str):
        raise BadRequestError("wrong_type", "prompt must be one text", param="prompt")
    if not 0 < len(value) <= LONGEST_TURN:
        raise BadRequestError("out_of_range", f"prompt has 1 to {LONGEST_TURN} characters", param="prompt")
    return value


async def _whole(exchange: Exchange, desk: Desk, request: _Request, caller: Caller) -> None:
    found = await whole(request.ask, caller=caller, desk=desk)
    logprobs = _logprobs([item for piece in found.pieces for item in piece.logprobs], 0)
    choice = _choice(found.text, found.done.finish.value, logprobs)
    closing = {"usage": sse.usage(found.done.usage), "receipt": found.done.receipt.as_json()}
    await exchange.reply(200, {**_head(found.done.receipt), "choices": [choice], **closing})


async def _stream(exchange: Exchange, desk: Desk, request: _Request, caller: Caller) -> None:
    head: dict[str, Any] = {}
    offset = 0
    async with aclosing(answer(request.ask, caller=caller, house=desk.house)) as steps:
        async for step in steps:
            if isinstance(step, Opened):
                head = _head(step.receipt) | ({"usage": None} if request.include_usage else {})
                continue
            if not exchange.started:
                await exchange.stream()  # not before the engine's first word: a refusal can still have its own status
            if isinstance(step, Done):
                await exchange.end(_closing(head, step, include_usage=request.include_usage))
            else:
                if step.text:
                    exchange.hold(_event(head, [_choice(step.text, None, _logprobs(step.logprobs, offset))]))
                if not step.more:
                    await exchange.event()
                offset += len(step.text)


def _closing(head: Mapping[str, Any], done: Done, *, include_usage: bool) -> bytes:
    """The finish, usage when it was asked for, the receipt on the last event, [DONE]."""
    receipt = {"receipt": done.receipt.as_json()}
    finish = [_choice("", done.finish.value, None)]
    if not include_usage:
        return _event(head, finish, receipt) + sse.DONE
    return _event(head, finish) + _event(head, [], {"usage": sse.usage(done.usage), **receipt}) + sse.DONE


def _event(head: Mapping[str, Any], choices: list[dict[str, Any]], extra: Mapping[str, Any] | None = None) -> bytes:
    return sse.event({**head, "choices": choices, **(extra or {})})


def _head(receipt: Receipt) -> dict[str, Any]:
    return {
        "id": f"cmpl-{receipt.request_id}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": receipt.model,
    }


def _choice(text: str, finish: str | None, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}


def _logprobs(found: Sequence[Mapping[str, Any]], offset: int) -> dict[str, Any] | None:
    """The older form: parallel lists, and where in the text each token begins."""
    if not found:
        return None
    starts = []
    for item in found:
        starts.append(offset)
        offset += len(item["token"])
    return {
        "tokens": [item["token"] for item in found],
        "token_logprobs": [item["logprob"] for item in found],
        "top_logprobs": [{top["token"]: top["logprob"] for top in item["top_logprobs"]} for item in found],
        "text_offset": starts,
    }
