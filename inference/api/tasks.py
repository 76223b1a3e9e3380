"""`/v1/tasks`: the registered uses, and the shortest way to use one: a structured record in, a checked draft out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from inference.api import document, schemas, sse
from inference.api.answering import caller_of, while_listening, whole
from inference.api.desk import Desk
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.api.fields import Fields
from inference.policy import rules
from inference.policy.ask import Ask, Sampling
from inference.policy.catalog import DISCLOSURE, TASKS, DataClass, Task
from inference.policy.rules import Rights
from inference.serve import Caller


@dataclass(frozen=True)
class _Request:
    """A parsed body."""

    ask: Ask
    task: Task


async def list_(exchange: Exchange, _desk: Desk, rights: Rights, _argument: str) -> None:
    """`GET /v1/tasks`: all of them, each with what this key may do with it."""
    await exchange.reply(200, {"object": "list", "data": [_view(task, rights) for task in TASKS.values()]})


async def retrieve(exchange: Exchange, _desk: Desk, rights: Rights, argument: str) -> None:
    """`GET /v1/tasks/{task}`."""
    await exchange.reply(200, _view(_task(argument), rights))


async def run(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`POST /v1/tasks/{task}`: one draft, whole and checked."""
    caller = caller_of(exchange, rights)
    request = _parse(document.parse(await exchange.body()), _task(argument))
    await while_listening(exchange, desk, caller, _answer(exchange, desk, request, caller))


def _task(name: str) -> Task:
    if name not in TASKS:
        raise BadRequestError("not_found", "there is no task by that name; see GET /v1/tasks")
    return TASKS[name]


def _view(task: Task, rights: Rights) -> dict[str, Any]:
    granted = task.id in rights.tasks
    return {
        "id": task.id,
        "object": "task",
        "title": task.title,
        "form": task.form.value,
        "fields": list(task.fields),
        "record_schema": None if task.record_schema is None else dict(task.record_schema),
        "output_schema": None if task.schema is None else dict(task.schema),
        "checks": sorted(task.checks),
        "patient_facing": task.patient_facing,
        "granted": granted,
        "purposes": sorted(rights.purposes) if granted else [],
    }


def _parse(value: Any, task: Task) -> _Request:
    fields = Fields(value, "")
    record = fields.required("record")
    if not isinstance(record, dict):
        raise fields.wrong("record", "an object")
    ask = Ask(
        model=fields.text("model") or "default",
        task=task.id,
        purpose=fields.token("purpose"),
        record=record,
        patient_id=fields.text("patient_id"),
        data_class=fields.choice("data_class", tuple(DataClass)),
        end_user=fields.token("user"),
        sampling=Sampling(
            max_tokens=fields.integer("max_tokens", 1, schemas.MOST_TOKENS),
            temperature=fields.number("temperature", 0, 2),
            seed=fields.integer("seed", -(2**63), 2**63 - 1),
        ),
    )
    fields.end()
    return _Request(ask, task)


async def _answer(exchange: Exchange, desk: Desk, request: _Request, caller: Caller) -> None:
    found = await whole(request.ask, caller=caller, desk=desk)
    task = request.task
    # A draft with a schema has passed it by now, so it is JSON.
    content = {"text": found.text} if task.schema is None else {"output": json.loads(found.text)}
    await exchange.reply(
        200,
        {
            "id": found.done.receipt.request_id,
            "object": "draft",
            "task": task.id,
            **content,
            "finish_reason": found.done.finish.value,
            "draft": True,
            "ai_generated": True,
            "disclosure": DISCLOSURE[rules.language(request.ask.record or {})] if task.patient_facing else None,
            "usage": sse.usage(found.done.usage),
            "receipt": found.done.receipt.as_json(),
        },
    )
