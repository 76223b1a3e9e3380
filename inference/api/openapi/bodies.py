"""The bodies this door takes, with the limits of the code that reads them.

What a schema cannot say stands in the description: a record is JSON inside a text, and what a task allows is `/v1/tasks`.
"""

from __future__ import annotations

from inference.api import audio, decisions, embeddings, schemas, turns
from inference.api.openapi.shapes import (
    ANY_OBJECT,
    FLAG,
    TOKEN,
    Shape,
    either,
    items,
    just,
    number,
    one_of,
    ref,
    taken,
    text,
    whole,
)
from inference.drafts.rules import Verdict
from inference.policy import tools
from inference.policy.catalog import PURPOSES, TASKS, DataClass

NAME: Shape = {"type": "string", "pattern": r"^[A-Za-z0-9_-]{1,64}$"}
MODEL: Shape = {**text(256, 1), "description": "`default`, or the id in GET /v1/models"}
_LABEL: Shape = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": r"^[ -~]*$"}

LABELS: dict[str, Shape] = {"user": TOKEN, "metadata": ref("Metadata")}
SAMPLING: dict[str, Shape] = {
    "max_tokens": whole(1, schemas.MOST_TOKENS),
    "max_completion_tokens": whole(1, schemas.MOST_TOKENS),
    "temperature": number(0, 2),
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "top_k": whole(1, schemas.MOST_TOP_K),
    "seed": whole(-(2**63), 2**63 - 1),
    "stop": either(text(256, 1), items(text(256, 1), schemas.MOST_STOPS)),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "n": whole(1, 1),
}
_STREAM: dict[str, Shape] = {"stream": FLAG, "stream_options": taken({}, {"include_usage": FLAG})}
_FORMAT = either(
    taken({"type": one_of(("text", "json_object"))}),
    taken(
        {
            "type": just("json_schema"),
            "json_schema": taken(
                {"name": TOKEN, "schema": ANY_OBJECT},
                {"description": text(schemas.LONGEST_DESCRIPTION), "strict": FLAG},
            ),
        }
    ),
)
_TOOL = taken(
    {
        "function": taken(
            {"name": NAME},
            {"description": text(schemas.LONGEST_DESCRIPTION), "parameters": ANY_OBJECT, "strict": FLAG},
        )
    },
    {"type": just("function")},
)
_CHOICE = either(
    one_of((tools.NONE, tools.AUTO, tools.REQUIRED)),
    taken({"function": taken({"name": NAME})}, {"type": just("function")}),
)

BODIES: dict[str, Shape] = {
    "Metadata": taken(
        {},
        {
            "task": one_of(TASKS),
            "purpose": one_of(PURPOSES),
            "patient_id": _LABEL,
            "data_class": one_of(DataClass),
        },
    ),
    "Message": {
        "description": "A task with a record takes one message of the user's, whose content is the record as JSON.",
        **taken(
            {"role": one_of(turns.ROLES)},
            {
                "content": either(
                    text(turns.LONGEST_TURN),
                    items(
                        taken({"text": text(turns.LONGEST_TURN)}, {"type": one_of(turns.PARTS)}),
                        turns.MOST_TURNS,
                    ),
                ),
                "tool_calls": items(
                    taken(
                        {"id": TOKEN, "function": taken({"name": NAME}, {"arguments": text(turns.LONGEST_TURN)})},
                        {"type": just("function")},
                    ),
                    turns.MOST_CALLS,
                ),
                "tool_call_id": TOKEN,
            },
        ),
    },
    "ChatRequest": taken(
        {"model": MODEL, "messages": items(ref("Message"), turns.MOST_TURNS, 1)},
        {
            **LABELS,
            **SAMPLING,
            **_STREAM,
            "logprobs": FLAG,
            "top_logprobs": whole(0, schemas.MOST_LOGPROBS),
            "tools": items(_TOOL, schemas.MOST_TOOLS),
            "tool_choice": _CHOICE,
            "response_format": _FORMAT,
            "parallel_tool_calls": FLAG,
            "store": just(False),
        },
    ),
    "CompletionRequest": taken(
        {"model": MODEL, "prompt": either(text(turns.LONGEST_TURN, 1), items(text(turns.LONGEST_TURN, 1), 1, 1))},
        {
            **LABELS,
            **SAMPLING,
            **_STREAM,
            "logprobs": whole(0, schemas.MOST_LOGPROBS),
            "best_of": whole(1, 1),
            "echo": just(False),
        },
    ),
    "EmbeddingRequest": taken(
        {
            "model": MODEL,
            "input": either(
                text(embeddings.LONGEST_TEXT, 1),
                items(text(embeddings.LONGEST_TEXT, 1), embeddings.MOST_TEXTS, 1),
            ),
        },
        {**LABELS, "encoding_format": one_of(("float", "base64"))},
    ),
    "TranscriptionForm": {
        "type": "object",
        "properties": {
            "file": {
                "type": "string",
                "contentMediaType": "application/octet-stream",
                "description": f"WAV, FLAC, OGG or MP3, at most {audio.LARGEST_RECORDING} bytes",
            },
            "model": MODEL,
            "language": {"type": "string", "pattern": "^[a-z]{2}$"},
            "response_format": one_of(("json", "text")),
            "user": TOKEN,
            "metadata[task]": one_of(TASKS),
            "metadata[purpose]": one_of(PURPOSES),
            "metadata[patient_id]": _LABEL,
            "metadata[data_class]": one_of(DataClass),
        },
        "required": ["file", "model"],
        "additionalProperties": False,
    },
    "TaskRequest": taken(
        {"record": ANY_OBJECT},
        {
            "model": MODEL,
            "purpose": one_of(PURPOSES),
            "patient_id": _LABEL,
            "data_class": one_of(DataClass),
            "user": TOKEN,
            "max_tokens": SAMPLING["max_tokens"],
            "temperature": SAMPLING["temperature"],
            "seed": SAMPLING["seed"],
        },
    ),
    "DecisionRequest": taken(
        {"request_id": TOKEN, "decision": one_of(Verdict)},
        {
            "minutes_saved": number(0, decisions.MOST_MINUTES),
            "edit_distance": number(0, decisions.MOST_EDITS),
            "user": TOKEN,
        },
    ),
}
