"""`/v1/responses`: OpenAI's newer form of a conversation, answered at once, streamed, or in the background.

Nothing is stored but work in the background, which is a durable job (inference.queue) under another name: `resp_...` is
`job_...`. So there is no `previous_response_id`, and only a background response can be read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from appliance.audit.actions import Action
from inference.api import document, items, jobs, reading, response_shapes, schemas, turns
from inference.api.answering import caller_of, while_listening, whole
from inference.api.desk import Desk
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.api.fields import Fields
from inference.policy import tools as envelopes
from inference.policy.ask import Ask, Sampling, Turn
from inference.policy.catalog import TASKS, Form
from inference.policy.rules import Rights, check_reaches
from inference.queue import selectors, services
from inference.queue.errors import JobFinishedError, JobNotFoundError
from inference.serve import Caller, Done, Opened, answer

_ECHOED = (
    "instructions", "max_output_tokens", "metadata", "temperature", "text", "tool_choice", "tools", "top_p", "user",
)  # fmt: skip


@dataclass(frozen=True)
class _Request:
    """A parsed body: what is asked, and how the caller wants to be answered."""

    ask: Ask
    stream: bool
    background: bool
    echo: Mapping[str, Any] = field(repr=False)

    @property
    def holds_envelope(self) -> bool:
        return bool(envelopes.offered(self.ask.tools, self.ask.tool_choice))

    def read(self, text: str) -> envelopes.Answer:
        return envelopes.read(text) if self.holds_envelope else envelopes.Answer(text=text)


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`POST /v1/responses`."""
    caller = caller_of(exchange, rights)
    request = _parse(document.parse(await exchange.body()))
    if request.background:
        accepted = await jobs.accept(exchange, desk, rights, request.ask)
        # Asked again with its Idempotency-Key it may have an answer by now: that is a reading like any other.
        await _show(exchange, desk, rights, f"resp_{accepted.ref.removeprefix('job_')}", request.echo)
        return
    write = _stream if request.stream else _whole
    await while_listening(exchange, desk, caller, write(exchange, desk, request, caller))


async def retrieve(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`GET /v1/responses/{id}`: how a background response stands, and what came of it."""
    await _show(exchange, desk, rights, argument, {})


async def cancel(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`POST /v1/responses/{id}/cancel`: for one that has ended it changes nothing, as with OpenAI's."""
    try:
        about: dict[str, Any] = {"rights": rights, "ref": _ref(argument), "request_id": exchange.request_id}
        await desk.rows.call(services.cancel, actor=rights.client, **about)
    except JobNotFoundError:
        raise _not_found() from None
    except JobFinishedError:
        pass
    await retrieve(exchange, desk, rights, argument)


async def delete(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`DELETE /v1/responses/{id}`: an ended one and its answer are forgotten."""
    try:
        about: dict[str, Any] = {"rights": rights, "ref": _ref(argument), "request_id": exchange.request_id}
        await desk.rows.call(services.delete, actor=rights.client, **about)
    except JobNotFoundError:
        raise _not_found() from None
    await exchange.reply(200, {"id": argument, "object": "response", "deleted": True})


async def _show(exchange: Exchange, desk: Desk, rights: Rights, response_id: str, echo: Mapping[str, Any]) -> None:
    found = await _find(desk, rights, response_id)
    if found.result is not None:
        # A result is patient text leaving the box: no record, no result.
        job = found.job
        await reading.record(
            exchange, desk, rights, Action.JOB_READ, target=job.ref, task=job.task, purpose=job.purpose
        )
    await exchange.reply(200, {**response_shapes.of_job(response_id, found), **echo})


async def _find(desk: Desk, rights: Rights, argument: str) -> selectors.Answered:
    try:
        found = await desk.rows.call(selectors.of_client, client=rights.client, ref=_ref(argument))
    except JobNotFoundError:
        raise _not_found() from None
    check_reaches(rights, found.accepted)
    if found.job.state == "succeeded" and found.result is None:
        raise _not_found()  # its life is over; an empty answer would be taken for one
    return found


def _ref(response_id: str) -> str:
    return f"job_{response_id.removeprefix('resp_')}"


def _not_found() -> BadRequestError:
    return BadRequestError("response_not_found", "there is no background response by that id, or not any more")


async def _whole(exchange: Exchange, desk: Desk, request: _Request, caller: Caller) -> None:
    found = await whole(request.ask, caller=caller, desk=desk)
    body = response_shapes.finished(_response_id(exchange), request.echo, request.read(found.text), found.done)
    await exchange.reply(200, body)


async def _stream(exchange: Exchange, desk: Desk, request: _Request, caller: Caller) -> None:
    events: response_shapes.Events | None = None
    parts: list[str] = []
    async with aclosing(answer(request.ask, caller=caller, house=desk.house)) as steps:
        async for step in steps:
            if isinstance(step, Opened):
                events = response_shapes.Events(_response_id(exchange), request.echo, step.receipt.model)
                continue
            if events is None:
                raise RuntimeError("text before the intent was on record")
            if not exchange.started:
                # Not before the engine's first word: until then a refusal can still have its own status.
                await exchange.stream()
                exchange.failure = events.failed
                exchange.hold(events.opening() + (b"" if request.holds_envelope else events.text_opening()))
            if isinstance(step, Done):
                await exchange.end(_end(events, request, "".join(parts), step))
                continue
            parts.append(step.text)
            if step.text and not request.holds_envelope:
                exchange.hold(events.text(step.text))
            if not step.more:
                await exchange.event()


def _end(events: response_shapes.Events, request: _Request, text: str, done: Done) -> bytes:
    found = request.read(text)
    if found.call is not None:
        return events.called(found.call) + events.closing(found, done)
    # An envelope means something only once it is closed, so its words come at once.
    opened = events.text_opening() + events.text(found.text) if request.holds_envelope else b""
    return opened + events.text_closing() + events.closing(found, done)


def _response_id(exchange: Exchange) -> str:
    return f"resp_{exchange.request_id.removeprefix('req_')}"


def _parse(value: Any) -> _Request:
    fields = Fields(value, "")
    model = fields.text("model", required=True)
    about = schemas.labels(fields)
    drawn = Sampling(
        max_tokens=fields.integer("max_output_tokens", 1, schemas.MOST_TOKENS),
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1, above_low=True),
    )
    offered, choice = schemas.tools(fields, flat=True)
    text = fields.object("text")
    wanted = schemas.response_format(text, "format", flat=True)
    text.end()
    if wanted is not None and choice != envelopes.NONE:
        raise BadRequestError("out_of_range", "tools and text.format do not go together", param="text.format")
    stream, background = _how(fields)
    content = _content(fields, about.task)
    fields.end()
    ask = about.ask(model, sampling=drawn, schema=wanted, tools=offered, tool_choice=choice, **content)
    echo = {name: value[name] for name in _ECHOED if value.get(name) is not None}
    return _Request(ask, stream, background, echo)


def _how(fields: Fields) -> tuple[bool, bool]:
    """Streamed, in the background, or neither. What changes nothing here is taken: one call at a time, nothing cut."""
    stream, background = fields.flag("stream"), fields.flag("background")
    fields.flag("parallel_tool_calls")
    fields.choice("truncation", ("disabled",))
    if fields.flag("store") and not background:
        raise BadRequestError("out_of_range", "nothing is stored here but background: true", param="store")
    if background and stream:
        raise BadRequestError("out_of_range", "background goes without stream", param="background")
    return stream, background


def _content(fields: Fields, task: str) -> dict[str, Any]:
    """A record for a task that has one, else the turns, with the instructions before them."""
    instructions = fields.prose("instructions", turns.LONGEST_TURN)
    messages = items.messages(fields.required("input"))
    known = TASKS.get(task)
    if known is None or known.form is not Form.RECORD:  # a label that is missing is told by policy, in its own words
        said = (Turn("system", instructions),) if instructions else ()
        return {"turns": (*said, *turns.conversation(messages, "input"))}
    if instructions:
        raise BadRequestError("out_of_range", "a task with a record has its own instruction", param="instructions")
    return {"record": turns.record(messages, "input")}
