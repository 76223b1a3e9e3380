"""What this door answers, field by field."""

from __future__ import annotations

from inference.admission.rules import Capacity, Pressure
from inference.api.errors import TABLE
from inference.api.openapi.shapes import (
    ANY_OBJECT,
    COUNT,
    FLAG,
    MOMENT,
    NULL,
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
)
from inference.drafts.rules import Verdict
from inference.engines.engine import Finish
from inference.policy.catalog import Capability, Check, DataClass, Form, Lane

_TEXT: Shape = {"type": "string"}
_NUMBER: Shape = {"type": "number"}
_DIGEST: Shape = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_AUDIT = given({"shard": COUNT, "seq": COUNT})
_LOGPROB: dict[str, Shape] = {"token": _TEXT, "logprob": _NUMBER, "bytes": items(COUNT)}
_FINISH = one_of([*(finish.value for finish in Finish), "tool_calls"])
_CALL = given(
    {"id": _TEXT, "type": just("function"), "function": given({"name": _TEXT, "arguments": _TEXT})},
)

_LANE = given({"running": COUNT, "waiting": COUNT, "oldest_s": _NUMBER, "per_second": _NUMBER})

ANSWERS: dict[str, Shape] = {
    "Error": given(
        {
            "error": given(
                {
                    "message": {"type": "string", "description": "What to do; never what was sent"},
                    "type": one_of(sorted({row[1] for row in TABLE.values()})),
                    "param": maybe(_TEXT),
                    "code": one_of(TABLE),
                    "request_id": _TEXT,
                }
            )
        }
    ),
    "Receipt": given(
        {
            "request_id": _TEXT,
            "release_digest": _DIGEST,
            "change_id": COUNT,
            "audit": _AUDIT,
            "task": _TEXT,
            "purpose": _TEXT,
            "dropped_fields": items(_TEXT),
            "checks": maybe(given({"passed": items(one_of(Check)), "missing_codes": COUNT})),
            "ai_generated": just(True),
        }
    ),
    "Usage": given({"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT}),
    "Model": given(
        {
            "id": _TEXT,
            "object": just("model"),
            "created": WHEN,
            "owned_by": just("isoward"),
            "capabilities": items(one_of(Capability)),
            "release_digest": _DIGEST,
            "change_id": COUNT,
        }
    ),
    "Models": page(ref("Model")),
    "Status": given(
        {
            "status": one_of(("ok", "degraded")),
            "reasons": items(_TEXT),
            "capacity": one_of(Capacity),
            "model": maybe(given({"id": _TEXT, "release_digest": _DIGEST})),
            "lanes": given({**dict.fromkeys(Lane, _LANE), "slots": COUNT, "pressure": one_of(Pressure)}),
        }
    ),
    "Completion": given(
        {
            "id": _TEXT,
            "object": just("chat.completion"),
            "created": WHEN,
            "model": _TEXT,
            "choices": items(
                given(
                    {
                        "index": COUNT,
                        "message": given(
                            {"role": just("assistant"), "content": maybe(_TEXT), "refusal": NULL},
                            {"tool_calls": items(_CALL, 1, 1)},
                        ),
                        "logprobs": maybe(
                            given(
                                {
                                    "content": items(given({**_LOGPROB, "top_logprobs": items(given(_LOGPROB))})),
                                    "refusal": NULL,
                                }
                            )
                        ),
                        "finish_reason": _FINISH,
                    }
                ),
                1,
                1,
            ),
            "usage": ref("Usage"),
            "receipt": ref("Receipt"),
        }
    ),
    "TextCompletion": given(
        {
            "id": _TEXT,
            "object": just("text_completion"),
            "created": WHEN,
            "model": _TEXT,
            "choices": items(
                given(
                    {
                        "index": COUNT,
                        "text": _TEXT,
                        "logprobs": maybe(
                            given(
                                {
                                    "tokens": items(_TEXT),
                                    "token_logprobs": items(_NUMBER),
                                    "top_logprobs": items(ANY_OBJECT),
                                    "text_offset": items(COUNT),
                                }
                            )
                        ),
                        "finish_reason": _FINISH,
                    }
                ),
                1,
                1,
            ),
            "usage": ref("Usage"),
            "receipt": ref("Receipt"),
        }
    ),
    "Embeddings": page(
        given({"object": just("embedding"), "index": COUNT, "embedding": either(items(_NUMBER), _TEXT)}),
        model=_TEXT,
        usage=given({"prompt_tokens": COUNT, "total_tokens": COUNT}),
        receipt=ref("Receipt"),
    ),
    "Transcription": given({"text": _TEXT, "receipt": ref("Receipt")}),
    "Task": given(
        {
            "id": _TEXT,
            "object": just("task"),
            "title": _TEXT,
            "form": one_of(Form),
            "fields": items(_TEXT),
            "record_schema": maybe(ANY_OBJECT),
            "output_schema": maybe(ANY_OBJECT),
            "checks": items(one_of(Check)),
            "patient_facing": FLAG,
            "granted": FLAG,
            "purposes": items(_TEXT),
        }
    ),
    "Tasks": page(ref("Task")),
    "Draft": given(
        {
            "id": _TEXT,
            "object": just("draft"),
            "task": _TEXT,
            "finish_reason": _FINISH,
            "draft": just(True),
            "ai_generated": just(True),
            "disclosure": maybe(_TEXT),
            "usage": ref("Usage"),
            "receipt": ref("Receipt"),
        },
        {"text": _TEXT, "output": ANY_OBJECT},
    ),
    "Decision": given(
        {"object": just("decision"), "request_id": _TEXT, "decision": one_of(Verdict), "audit": _AUDIT},
    ),
    "Unreviewed": page(
        given(
            {
                "request_id": _TEXT,
                "object": just("draft"),
                "task": _TEXT,
                "purpose": _TEXT,
                "user": _TEXT,
                "release_digest": _TEXT,
                "finished_at": MOMENT,
            }
        ),
        has_more=FLAG,
        next=maybe(_TEXT),
    ),
    "Explanation": given(
        {
            "request_id": _TEXT,
            "object": just("explanation"),
            "state": _TEXT,
            "task": _TEXT,
            "purpose": _TEXT,
            "data_class": one_of(DataClass),
            "lane": maybe(one_of(Lane)),
            "end_user": _TEXT,
            "dropped_fields": items(_TEXT),
            "checks": maybe(ANY_OBJECT),
            "usage": maybe(given({"input_tokens": COUNT, "output_tokens": COUNT})),
            "started_at": MOMENT,
            "finished_at": maybe(MOMENT),
            "duration_ms": maybe(COUNT),
            "model": given({"id": _TEXT, "release_digest": _TEXT, "name": maybe(_TEXT), "version": maybe(COUNT)}),
            "change": maybe(
                given(
                    {
                        "id": COUNT,
                        "kind": _TEXT,
                        "digest": _TEXT,
                        "proposer": _TEXT,
                        "approvers": items(_TEXT),
                        "executed_at": maybe(MOMENT),
                    }
                )
            ),
            "decision": maybe(
                given(
                    {
                        "decision": one_of(Verdict),
                        "user": _TEXT,
                        "at": MOMENT,
                        "minutes_saved": maybe(_NUMBER),
                        "edit_distance": maybe(_NUMBER),
                    }
                )
            ),
            "audit": items(
                given(
                    {
                        "kind": _TEXT,
                        "action": _TEXT,
                        "shard": COUNT,
                        "seq": COUNT,
                        "sealed": FLAG,
                        "tree_index": maybe(COUNT),
                    }
                )
            ),
            "ai_generated": just(True),
        }
    ),
}
