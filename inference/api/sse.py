"""Answers in OpenAI's shapes: one object, or server-sent events.

Only our own fields: nothing of the engine's passes but text, the finish and the counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from inference.api.errors import Refusal
from inference.engines.engine import Piece, Usage
from inference.policy.tools import Answer, Call
from inference.queue.results import answer_of
from inference.serve import Done, Receipt

DONE = b"data: [DONE]\n\n"
CALLED = "tool_calls"
_MARK = "the text goes here"
_encode = msgspec.json.Encoder().encode


class Chunks:
    """The events of one streamed answer."""

    def __init__(self, receipt: Receipt, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._request_id = receipt.request_id
        self._head = {
            "id": f"chatcmpl-{receipt.request_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": receipt.model,
        }
        # There is one event for each token, and all but the text of it is the same: encoded once.
        before, _, after = self._event([_choice({"content": _MARK})]).partition(_encode(_MARK))
        self._before_text, self._after_text = before, after

    def opening(self) -> bytes:
        return self._event([_choice({"role": "assistant", "content": ""})])

    def text(self, piece: Piece) -> bytes:
        if piece.logprobs:
            return self._event([_choice({"content": piece.text}, logprobs=piece.logprobs)])
        return self._before_text + _encode(piece.text) + self._after_text

    def called(self, call: Call) -> bytes:
        """The whole call in one event; clients join its pieces, and one is as good as many."""
        return self._event([_choice({"tool_calls": [{"index": 0, **_call(call, self._request_id)}]})])

    def closing(self, done: Done, *, called: bool = False) -> bytes:
        """The finish, usage when it was asked for, the receipt on the last chunk, [DONE]."""
        receipt = {"receipt": done.receipt.as_json()}
        finish = [_choice({}, CALLED if called else done.finish.value)]
        if not self._include_usage:
            return self._event(finish, receipt) + DONE
        return self._event(finish) + self._event([], {"usage": usage(done.usage), **receipt}) + DONE

    def _event(self, choices: list[dict[str, Any]], extra: dict[str, Any] | None = None) -> bytes:
        body = {**self._head, "choices": choices, **({"usage": None} if self._include_usage else {}), **(extra or {})}
        return event(body)


def event(value: Mapping[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + _encode(value) + b"\n\n"


def failure(refusal: Refusal, request_id: str) -> bytes:
    """The terminal event of a stream that could not be completed. No [DONE] follows it."""
    return b"data: " + json.dumps(refusal.body(request_id), ensure_ascii=False).encode() + b"\n\n"


def completion(answer: Answer, done: Done, logprobs: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The whole answer as one object."""
    head = _head(done.receipt.request_id, done.receipt.model, int(time.time()))
    choice = _whole(answer, done.finish.value, done.receipt.request_id, logprobs)
    return {**head, "choices": [choice], "usage": usage(done.usage), "receipt": done.receipt.as_json()}


def finished(result: Mapping[str, Any], *, at: datetime | None) -> dict[str, Any]:
    """The same object, from what a job kept."""
    spent = Usage(result["input_tokens"], result["output_tokens"])
    created = int(at.timestamp()) if at else 0
    request_id = result["receipt"]["request_id"]
    choice = _whole(answer_of(result), result["finish"], request_id, result.get("logprobs", ()))
    head = _head(request_id, result["model"], created)
    return {**head, "choices": [choice], "usage": usage(spent), "receipt": result["receipt"]}


def usage(spent: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": spent.input_tokens,
        "completion_tokens": spent.output_tokens,
        "total_tokens": spent.input_tokens + spent.output_tokens,
    }


def _head(request_id: str, model: str, created: int) -> dict[str, Any]:
    return {"id": f"chatcmpl-{request_id}", "object": "chat.completion", "created": created, "model": model}


def _whole(answer: Answer, finish: str, request_id: str, logprobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.call is not None:
        message |= {"content": None, "tool_calls": [_call(answer.call, request_id)]}
        finish = CALLED
    return {"index": 0, "message": message, "logprobs": _logprobs(logprobs), "finish_reason": finish}


def _call(call: Call, request_id: str) -> dict[str, Any]:
    name = request_id.removeprefix("req_").removeprefix("job_")
    return {"id": f"call_{name}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _choice(
    delta: dict[str, Any], finish: str | None = None, *, logprobs: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": _logprobs(logprobs), "finish_reason": finish}


def _logprobs(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    return {"content": list(found), "refusal": None} if found else None
