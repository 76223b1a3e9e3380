"""Answers in the shapes of the Responses API: one object, its typed events, and the object of a job.

Only our own fields: what was asked is echoed as it was taken, and of the engine's nothing passes but text, the finish
and the counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from inference.api.errors import Refusal
from inference.engines.engine import Finish, Usage
from inference.policy.tools import Answer, Call
from inference.queue.results import answer_of
from inference.queue.selectors import Answered
from inference.serve import Done

STATES = {
    "queued": "queued",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""A job's states in the words of the Responses API."""

Item = dict[str, Any]


def response(response_id: str, status: str, **changes: Any) -> dict[str, Any]:
    """The object, with every field that OpenAI's has and nothing in it that was not said."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": "default",
        "output": [],
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        **changes,
    }


def finished(response_id: str, echo: Mapping[str, Any], answer: Answer, done: Done) -> dict[str, Any]:
    """A whole answer."""
    return response(
        response_id,
        _status(done.finish.value),
        **{
            **echo,
            **_details(done.finish.value),
            "model": done.receipt.model,
            "output": _output(response_id, answer),
            "usage": usage(done.usage),
            "receipt": done.receipt.as_json(),
        },
    )


def of_job(response_id: str, found: Answered) -> dict[str, Any]:
    """A job as a response: what is asked for is known by its task and purpose only, the rest of it is sealed or gone."""
    job, result = found.job, found.result
    changes: dict[str, Any] = {
        "created_at": int(job.created.timestamp()),
        "background": True,
        "store": True,
        "metadata": {"task": job.task, "purpose": job.purpose},
    }
    status = STATES[job.state]
    if result is not None:
        status = _status(result["finish"])
        spent = Usage(result["input_tokens"], result["output_tokens"])
        changes |= _details(result["finish"]) | {
            "model": result["model"],
            "output": _output(response_id, answer_of(result)),
            "usage": usage(spent),
            "receipt": result["receipt"],
        }
    elif status == "failed":
        changes["error"] = {"code": job.code, "message": "the work could not be done; the code says why"}
    return response(response_id, status, **changes)


def _output(response_id: str, answer: Answer) -> list[Item]:
    return [call_item(response_id, answer.call)] if answer.call else [text_item(response_id, answer.text)]


def text_item(response_id: str, text: str, status: str = "completed") -> Item:
    item_id = _named("msg", response_id)
    content = [text_part(text)] if status == "completed" else []
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def text_part(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": []}


def call_item(response_id: str, call: Call, status: str = "completed") -> Item:
    return {
        "id": _named("fc", response_id),
        "type": "function_call",
        "call_id": _named("call", response_id),
        "name": call.name,
        "arguments": call.arguments if status == "completed" else "",
        "status": status,
    }


def usage(spent: Usage) -> dict[str, Any]:
    return {
        "input_tokens": spent.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": spent.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent.input_tokens + spent.output_tokens,
    }


class Events:
    """The typed events of one streamed answer, numbered from 0."""

    def __init__(self, response_id: str, echo: Mapping[str, Any], model: str) -> None:
        self._id = response_id
        self._echo = {**echo, "model": model}
        self._number = 0
        self._text: list[str] = []

    def opening(self) -> bytes:
        begun = response(self._id, "in_progress", **self._echo)
        return self._event("response.created", response=begun) + self._event("response.in_progress", response=begun)

    def text_opening(self) -> bytes:
        """A message begins, and its one part."""
        item = text_item(self._id, "", "in_progress")
        return self._event("response.output_item.added", output_index=0, item=item) + self._part(
            "response.content_part.added", part=text_part("")
        )

    def text(self, text: str) -> bytes:
        self._text.append(text)
        return self._part("response.output_text.delta", delta=text, logprobs=[])

    def text_closing(self) -> bytes:
        text = "".join(self._text)
        return (
            self._part("response.output_text.done", text=text, logprobs=[])
            + self._part("response.content_part.done", part=text_part(text))
            + self._event("response.output_item.done", output_index=0, item=text_item(self._id, text))
        )

    def called(self, call: Call) -> bytes:
        """The whole call; clients join its pieces, and one is as good as many."""
        item = {"item_id": _named("fc", self._id), "output_index": 0}
        begun, whole = call_item(self._id, call, "in_progress"), call_item(self._id, call)
        return (
            self._event("response.output_item.added", output_index=0, item=begun)
            + self._event("response.function_call_arguments.delta", **item, delta=call.arguments)
            + self._event("response.function_call_arguments.done", **item, name=call.name, arguments=call.arguments)
            + self._event("response.output_item.done", output_index=0, item=whole)
        )

    def closing(self, answer: Answer, done: Done) -> bytes:
        """The whole object once more, with usage and the receipt. Nothing follows it."""
        whole = finished(self._id, self._echo, answer, done)
        return self._event(f"response.{whole['status']}", response=whole)

    def failed(self, refusal: Refusal) -> bytes:
        """The terminal event of a stream that could not be completed."""
        error = {"code": refusal.code, "message": refusal.message}
        return self._event("response.failed", response=response(self._id, "failed", **{**self._echo, "error": error}))

    def _part(self, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=_named("msg", self._id), output_index=0, content_index=0, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def _status(finish: str) -> str:
    return "incomplete" if finish == Finish.LENGTH else "completed"


def _details(finish: str) -> dict[str, Any]:
    return {"incomplete_details": {"reason": "max_output_tokens"} if finish == Finish.LENGTH else None}


def _named(kind: str, response_id: str) -> str:
    return f"{kind}_{response_id.removeprefix('resp_')}"
