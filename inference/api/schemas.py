"""What a body may hold, field by field: an allow-list at every depth. A field that is not here is a 400 that names it.

Decides shapes, types and bounds of a chat body. Whether the request is allowed is `inference.policy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inference.api import turns
from inference.api.errors import BadRequestError
from inference.api.fields import Fields
from inference.policy import schema as schemas
from inference.policy import tools as envelopes
from inference.policy.ask import Ask, Sampling, Tool
from inference.policy.catalog import TASKS, DataClass, Form
from inference.policy.errors import PolicyRefusal

MOST_TOKENS = 32_768
MOST_LOGPROBS = 5
MOST_TOP_K = 1_000
MOST_TOOLS = 128
MOST_TOOL_BYTES = 262_144
MOST_STOPS = 16
LONGEST_DESCRIPTION = 2_000
_SEED = 2**63
_ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True)
class ChatRequest:
    """A parsed chat body: what is asked, and how the caller wants to be answered."""

    ask: Ask
    stream: bool = False
    include_usage: bool = False


@dataclass(frozen=True)
class Labels:
    """What every request says of itself in `metadata` and `user`."""

    task: str
    purpose: str
    patient_id: str
    data_class: str
    end_user: str

    def ask(self, model: str, **content: Any) -> Ask:
        return Ask(
            model=model,
            task=self.task,
            purpose=self.purpose,
            patient_id=self.patient_id,
            data_class=self.data_class,
            end_user=self.end_user,
            **content,
        )


def labels(fields: Fields) -> Labels:
    """Task, purpose, patient and data class, and the person the app says it acts for."""
    end_user = fields.token("user")
    metadata = fields.object("metadata")
    found = Labels(
        task=metadata.token("task"),
        purpose=metadata.token("purpose"),
        patient_id=metadata.text("patient_id"),
        data_class=metadata.choice("data_class", tuple(DataClass)),
        end_user=end_user,
    )
    metadata.end()
    return found


def chat(value: Any, *, within: str = "") -> ChatRequest:
    """`POST /v1/chat/completions`."""
    fields = Fields(value, within)
    drawn = sampling(fields, logprobs=_logprobs(fields))
    model = fields.text("model", required=True)
    about = labels(fields)
    stream = fields.flag("stream")
    include_usage = stream_options(fields, stream=stream)
    offered, choice = tools(fields)
    wanted = response_format(fields)
    if wanted is not None and choice != envelopes.NONE:
        raise BadRequestError("out_of_range", "tools and response_format do not go together", param="response_format")
    _ignorable(fields)
    messages = fields.required("messages")
    fields.end()
    task = TASKS.get(about.task)
    content: dict[str, Any]
    if task is not None and task.form is Form.CONVERSATION:
        content = {"turns": turns.conversation(messages, f"{within}messages")}
    else:
        content = {"record": turns.record(messages, f"{within}messages")}
    ask = about.ask(model, sampling=drawn, schema=wanted, tools=offered, tool_choice=choice, **content)
    return ChatRequest(ask=ask, stream=stream, include_usage=include_usage)


def job(value: Any) -> Ask:
    """`POST /v1/jobs`: a chat body that nobody waits for."""
    fields = Fields(value, "")
    request = chat(fields.take("request"), within="request.")
    fields.end()
    if request.stream:
        raise BadRequestError("out_of_range", "a job is not streamed", param="request.stream")
    return request.ask


def sampling(fields: Fields, *, logprobs: int | None = None) -> Sampling:
    """How to draw; the same fields for every door that makes text."""
    found = Sampling(
        max_tokens=_max_tokens(fields),
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1, above_low=True),
        top_k=fields.integer("top_k", 1, MOST_TOP_K),
        seed=fields.integer("seed", -_SEED, _SEED - 1),
        stop=_stop(fields),
        frequency_penalty=fields.number("frequency_penalty", -2, 2),
        presence_penalty=fields.number("presence_penalty", -2, 2),
        logprobs=logprobs,
    )
    fields.integer("n", 1, 1)
    return found


def stream_options(fields: Fields, *, stream: bool) -> bool:
    """Whether the caller wants the counts at the end of a stream."""
    value = fields.take("stream_options")
    if value is None:
        return False
    if not stream:
        raise BadRequestError("out_of_range", "stream_options goes with stream: true", param="stream_options")
    options = Fields(value, "stream_options.")
    include_usage = options.flag("include_usage")
    options.end()
    return include_usage


def response_format(fields: Fields, name: str = "response_format", *, flat: bool = False) -> Any:
    """The JSON Schema the answer must have; None for text. `flat`: as the Responses API writes it, one level less."""
    value = fields.take(name)
    if value is None:
        return None
    given = Fields(value, f"{fields.path(name)}.")
    kind = given.choice("type", ("text", "json_object", "json_schema"))
    wanted: Any = _ANY_OBJECT if kind == "json_object" else None
    if kind == "json_schema":
        named = given if flat else given.object("json_schema")
        named.token("name", required=True)
        named.prose("description", LONGEST_DESCRIPTION)
        named.flag("strict")
        wanted = schemas.check(named.required("schema"), param=named.path("schema"))
        named.end()
    given.end()
    return wanted


def _ignorable(fields: Fields) -> None:
    """What official clients send by themselves, and what changes nothing here: one call at a time, nothing stored."""
    fields.flag("parallel_tool_calls")
    if fields.flag("store"):
        raise BadRequestError("out_of_range", "nothing is stored here", param="store")


def _logprobs(fields: Fields) -> int | None:
    wanted = fields.flag("logprobs")
    most = fields.integer("top_logprobs", 0, MOST_LOGPROBS)
    if most is not None and not wanted:
        raise BadRequestError("out_of_range", "top_logprobs goes with logprobs: true", param="top_logprobs")
    return (most or 0) if wanted else None


def tools(fields: Fields, *, flat: bool = False) -> tuple[tuple[Tool, ...], str]:
    """The functions on offer and how the model may choose. `flat`: as the Responses API writes them, one level less."""
    offered: list[Tool] = []
    left = MOST_TOOL_BYTES
    for number, item in enumerate(fields.items("tools", MOST_TOOLS)):
        tool = _tool(Fields(item, f"{fields.path('tools')}.{number}."), flat=flat)
        # Each is small enough alone; the model is told all of them, and is held to all of them.
        left -= schemas.size([tool.description, tool.parameters])
        if left < 0:
            raise PolicyRefusal("schema_limit", f"all tools have at most {MOST_TOOL_BYTES} bytes", param="tools")
        offered.append(tool)
    names = [tool.name for tool in offered]
    if len(set(names)) != len(names):
        raise BadRequestError("out_of_range", "two tools have one name", param="tools")
    choice = _choice(fields, flat=flat)
    if choice not in {"", envelopes.NONE, envelopes.AUTO, envelopes.REQUIRED, *names} or (choice and not offered):
        raise BadRequestError("out_of_range", "tool_choice names a tool that is offered", param="tool_choice")
    return tuple(offered), choice or (envelopes.AUTO if offered else envelopes.NONE)


def _tool(given: Fields, *, flat: bool) -> Tool:
    given.choice("type", ("function",))
    function = given if flat else given.object("function")
    tool = Tool(
        name=function.identifier("name"),
        description=function.prose("description", LONGEST_DESCRIPTION),
        parameters=schemas.check(
            function.take("parameters") or _ANY_OBJECT, param=function.path("parameters"), told=True
        ),
    )
    function.flag("strict")
    function.end()
    given.end()
    return tool


def _choice(fields: Fields, *, flat: bool) -> str:
    value = fields.take("tool_choice")
    if value is None:
        return ""
    if isinstance(value, str):
        if value not in {envelopes.NONE, envelopes.AUTO, envelopes.REQUIRED}:
            raise BadRequestError(
                "out_of_range", "tool_choice is none, auto, required or a function", param="tool_choice"
            )
        return value
    given = Fields(value, "tool_choice.")
    given.choice("type", ("function",))
    function = given if flat else given.object("function")
    name = function.identifier("name")
    function.end()
    given.end()
    return name


def _max_tokens(fields: Fields) -> int | None:
    """OpenAI has an old and a new name for it; both at once could disagree."""
    old = fields.integer("max_tokens", 1, MOST_TOKENS)
    new = fields.integer("max_completion_tokens", 1, MOST_TOKENS)
    if old is not None and new is not None:
        raise BadRequestError("out_of_range", "name max_tokens or max_completion_tokens, not both", param="max_tokens")
    return new if old is None else old


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.take("stop")
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequestError("wrong_type", "stop must be a text or a list of texts", param="stop")
    if len(texts) > MOST_STOPS or not all(0 < len(text.encode()) <= 256 for text in texts):
        raise BadRequestError("out_of_range", f"stop holds at most {MOST_STOPS} texts of 1 to 256 bytes", param="stop")
    return tuple(texts)
