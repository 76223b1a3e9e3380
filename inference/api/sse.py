"""Answers in OpenAI's shapes: one object, or server-sent events.

Only our own fields: nothing of the engine's passes but text, the finish and the counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from inference.api.errors import Refusal
from inference.engines.engine import Usage
from inference.serve import Done, Receipt

DONE = b"data: [DONE]\n\n"


class Chunks:
    """The events of one streamed answer."""

    def __init__(self, receipt: Receipt, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._receipt = receipt
        self._head = {
            "id": f"chatcmpl-{receipt.request_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": receipt.model,
        }

    def opening(self) -> bytes:
        return self._event([_choice({"role": "assistant", "content": ""})])

    def text(self, text: str) -> bytes:
        return self._event([_choice({"content": text})])

    def closing(self, done: Done) -> bytes:
        """The finish, usage when it was asked for, the receipt on the last chunk, [DONE]."""
        receipt = {"receipt": done.receipt.as_json()}
        finish = [_choice({}, done.finish.value)]
        if not self._include_usage:
            return self._event(finish, receipt) + DONE
        return self._event(finish) + self._event([], {"usage": usage(done.usage), **receipt}) + DONE

    def _event(self, choices: list[dict[str, Any]], extra: dict[str, Any] | None = None) -> bytes:
        body = {**self._head, "choices": choices, **({"usage": None} if self._include_usage else {}), **(extra or {})}
        return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def failure(refusal: Refusal, request_id: str) -> bytes:
    """The terminal event of a stream that could not be completed. No [DONE] follows it."""
    return b"data: " + json.dumps(refusal.body(request_id), ensure_ascii=False).encode() + b"\n\n"


def completion(text: str, done: Done) -> dict[str, Any]:
    """The whole answer as one object."""
    return _completion(
        text, done.receipt.model, done.finish.value, done.usage, done.receipt.as_json(), int(time.time())
    )


def finished(result: Mapping[str, Any], *, at: datetime | None) -> dict[str, Any]:
    """The same object, from what a job kept."""
    spent = Usage(result["input_tokens"], result["output_tokens"])
    created = int(at.timestamp()) if at else 0
    return _completion(result["text"], result["model"], result["finish"], spent, result["receipt"], created)


def _completion(
    text: str, model: str, finish: str, spent: Usage, receipt: Mapping[str, Any], created: int
) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{receipt['request_id']}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": usage(spent),
        "receipt": receipt,
    }


def usage(spent: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": spent.input_tokens,
        "completion_tokens": spent.output_tokens,
        "total_tokens": spent.input_tokens + spent.output_tokens,
    }


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
