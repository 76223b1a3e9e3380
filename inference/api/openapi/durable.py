"""Bodies and answers of what outlives its request: responses, jobs, files and batches."""

from __future__ import annotations

from inference.api import batches, jobs, response_shapes, schemas, turns
from inference.api.openapi.bodies import LABELS, MODEL, NAME, SAMPLING
from inference.api.openapi.shapes import (
    ANY_OBJECT,
    COUNT,
    FLAG,
    NULL,
    TOKEN,
    WHEN,
    Shape,
    either,
    given,
    items,
    just,
    maybe,
    one_of,
    page,
    ref,
    taken,
    text,
    whole,
)
from inference.policy import tools
from inference.queue import rules

_TEXT: Shape = {"type": "string"}
_PROSE = text(turns.LONGEST_TURN)
_PARTS = items(
    taken(
        {"text": _PROSE},
        {
            "type": one_of(("input_text", "output_text")),
            "annotations": items(ANY_OBJECT, 0),
            "logprobs": items(ANY_OBJECT, 0),
        },
    ),
    turns.MOST_TURNS,
    1,
)
_SAID = either(_PROSE, _PARTS)
_STATE: dict[str, Shape] = {"id": TOKEN, "status": one_of(("in_progress", "completed", "incomplete"))}
_ITEM = either(
    taken(
        {"role": one_of([role for role in turns.ROLES if role != "tool"]), "content": _SAID},
        {**_STATE, "type": just("message")},
    ),
    taken({"type": just("function_call"), "call_id": TOKEN, "name": NAME, "arguments": _PROSE}, _STATE),
    taken({"type": just("function_call_output"), "call_id": TOKEN, "output": _SAID}, _STATE),
)
_FLAT_TOOL = taken(
    {"name": NAME},
    {
        "type": just("function"),
        "description": text(schemas.LONGEST_DESCRIPTION),
        "parameters": ANY_OBJECT,
        "strict": FLAG,
    },
)
_FLAT_FORMAT = either(
    taken({"type": one_of(("text", "json_object"))}),
    taken(
        {"type": just("json_schema"), "name": TOKEN, "schema": ANY_OBJECT},
        {"description": text(schemas.LONGEST_DESCRIPTION), "strict": FLAG},
    ),
)
_ENDS: dict[str, Shape] = {"first_id": maybe(_TEXT), "last_id": maybe(_TEXT), "has_more": FLAG}
_BATCH_STATES = ("validating", "failed", "in_progress", "cancelling", "completed", "cancelled", "expired")
_DELETED = given({"id": _TEXT, "object": _TEXT, "deleted": just(True)})

DURABLE: dict[str, Shape] = {
    "ResponseRequest": taken(
        {"model": MODEL, "input": either(_PROSE, items(_ITEM, turns.MOST_TURNS, 1))},
        {
            **LABELS,
            "instructions": _PROSE,
            "max_output_tokens": whole(1, schemas.MOST_TOKENS),
            "temperature": SAMPLING["temperature"],
            "top_p": SAMPLING["top_p"],
            "tools": items(_FLAT_TOOL, schemas.MOST_TOOLS),
            "tool_choice": either(
                one_of((tools.NONE, tools.AUTO, tools.REQUIRED)), taken({"name": NAME}, {"type": just("function")})
            ),
            "text": taken({}, {"format": _FLAT_FORMAT}),
            "stream": FLAG,
            "background": FLAG,
            "store": FLAG,
            "parallel_tool_calls": FLAG,
            "truncation": just("disabled"),
        },
    ),
    "Response": {
        "description": "OpenAI's object; what was asked is echoed in it as it was taken.",
        "type": "object",
        "required": [*response_shapes.response("", "")],
        "properties": {
            "object": just("response"),
            "status": one_of(sorted({*response_shapes.STATES.values(), "incomplete"})),
            "created_at": WHEN,
            "background": FLAG,
            "error": maybe(given({"code": _TEXT, "message": _TEXT})),
            "output": items({"type": "object", "required": ["id", "type", "status"]}, 1),
            "previous_response_id": NULL,
            "usage": maybe(ANY_OBJECT),
            "receipt": ref("Receipt"),
        },
    },
    "JobRequest": taken({"request": ref("ChatRequest")}),
    "Accepted": given({"id": _TEXT, "object": just("job"), "state": one_of(jobs.STATES)}),
    "Cancelled": given(
        {"id": _TEXT, "object": just("job"), "state": one_of(jobs.STATES), "cancel_requested": just(True)}
    ),
    "Job": given(
        {
            "id": _TEXT,
            "object": just("job"),
            "state": one_of(jobs.STATES),
            "position": maybe(COUNT),
            "attempt": COUNT,
            "task": _TEXT,
            "purpose": _TEXT,
            "created": WHEN,
            "started": maybe(WHEN),
            "finished": maybe(WHEN),
            "cancel_requested": FLAG,
            "error": maybe(given({"code": _TEXT})),
            "result": maybe(ref("Completion")),
        }
    ),
    "Jobs": page(ref("Job"), **_ENDS),
    "Deleted": _DELETED,
    "FileForm": {
        "type": "object",
        "properties": {
            "file": {
                "type": "string",
                "contentMediaType": "application/octet-stream",
                "description": f"JSON lines, at most {rules.LARGEST_FILE} bytes and {rules.MOST_LINES} lines",
            },
            "purpose": just("batch"),
        },
        "required": ["file", "purpose"],
        "additionalProperties": False,
    },
    "File": given(
        {
            "id": _TEXT,
            "object": just("file"),
            "bytes": COUNT,
            "created_at": WHEN,
            "filename": _TEXT,
            "purpose": one_of(("batch", "batch_output")),
            "status": just("processed"),
            "status_details": NULL,
        },
        {"expires_at": WHEN},
    ),
    "Files": page(ref("File"), **_ENDS),
    "BatchRequest": taken(
        {
            "input_file_id": text(256, 1),
            "endpoint": one_of(rules.ENDPOINTS),
            "completion_window": just(batches.WINDOW),
        },
        {"metadata": {"type": "object", "additionalProperties": text(512), "maxProperties": 16}},
    ),
    "Batch": given(
        {
            "id": _TEXT,
            "object": just("batch"),
            "endpoint": one_of(rules.ENDPOINTS),
            "errors": maybe(ANY_OBJECT),
            "input_file_id": _TEXT,
            "completion_window": just(batches.WINDOW),
            "status": one_of(_BATCH_STATES),
            "output_file_id": maybe(_TEXT),
            "error_file_id": maybe(_TEXT),
            "request_counts": given({"total": COUNT, "completed": COUNT, "failed": COUNT}),
            "metadata": maybe(ANY_OBJECT),
            **{
                f"{moment}_at": maybe(WHEN)
                for moment in (
                    *("created", "in_progress", "expires", "finalizing", "completed", "failed"),
                    *("expired", "cancelling", "cancelled"),
                )
            },
        }
    ),
    "Batches": page(ref("Batch"), **_ENDS),
}
