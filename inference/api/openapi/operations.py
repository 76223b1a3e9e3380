"""Every operation of this door: its path, what it takes, what it answers, and every code it may refuse with.

One line per route of `routes`; a test holds the two together, patterns included, and every code of `errors.TABLE` must be
somewhere here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.api import batches, files, jobs
from inference.api.openapi.shapes import TOKEN, Shape, one_of

JSON, FORM, EVENTS, PLAIN = "application/json", "multipart/form-data", "text/event-stream", "text/plain"
LINES = "application/octet-stream"

ANY = frozenset({"bad_host", "internal_error", "unknown_field", "duplicate_key", "out_of_range"})
"""A query where none is taken is refused as a field that is not known."""
KEYED = frozenset(
    {
        "invalid_api_key", "end_user_required", "invalid_end_user_assertion", "end_user_mismatch", "source_not_allowed",
        "client_certificate_required", "rights_stale",
    }
)  # fmt: skip
READ = frozenset({"body_timeout", "body_too_large", "unsupported_media_type"})
FIELDS = frozenset({"unknown_field", "missing_field", "wrong_type", "out_of_range", "duplicate_key", "too_many_values"})
BODY = READ | FIELDS | {"invalid_json", "too_deep", "invalid_number"}
MAY = frozenset(
    {
        "purpose_required", "purpose_unknown", "purpose_not_granted", "task_required", "task_unknown", "task_not_granted",
        "phi_not_granted", "data_class_conflict", "rights_withdrawn", "model_not_granted", "model_not_found",
        "feature_not_granted", "tool_not_granted", "record_required", "record_empty", "record_not_allowed", "task_form",
        "language_unsupported", "special_token_in_content", "schema_limit",
    }
)  # fmt: skip
RUN = frozenset(
    {
        "no_model", "task_not_routed", "model_cannot", "context_length", "client_queue_full", "queue_full",
        "audit_unavailable", "engine_unavailable", "engine_failed", "engine_protocol", "engine_refused", "engine_timeout",
        "draft_refused", "invalid_deadline", "deadline_exceeded", "gpu_pressure",
    }
)  # fmt: skip
ROWS = frozenset({"database_unavailable", "audit_unavailable", "busy", "client_queue_full"})
REACH = ROWS | {"not_your_work", "purpose_not_granted", "task_not_granted", "phi_not_granted"}
"""Of what is kept of earlier work."""
KEPT = ROWS | {"invalid_idempotency_key", "idempotency_conflict", "too_many_jobs"}
LINE = frozenset({"line_too_long", "duplicate_custom_id"})
"""Of one line of a batch, in its error file."""
ASK = BODY | MAY | RUN

PARAMETERS: dict[str, str] = {
    "model": r"[A-Za-z0-9._-]{1,128}",
    "task": r"[a-z_]{1,64}",
    "request_id": r"[A-Za-z0-9_.-]{1,64}",
    "job": r"job_[0-9a-f]{24}",
    "response": r"resp_[0-9a-f]{24}",
    "file": files.FILE,
    "batch": batches.BATCH,
}
"""The names in braces, and what may stand there."""


@dataclass(frozen=True)
class Operation:
    """One method on one path."""

    method: str
    path: str
    title: str
    answers: str = ""
    """The component that a 200 holds."""
    takes: str = ""
    media: str = JSON
    also: tuple[str, ...] = ()
    """Other types the answer may have."""
    codes: frozenset[str] = frozenset()
    query: dict[str, Shape] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    headers: dict[str, Shape] = field(default_factory=dict)
    status: int = 200
    key: bool = True


_RETRY: dict[str, Shape] = {"Idempotency-Key": {"type": "string", "pattern": "^[!-~]{1,128}$"}}
_DEADLINE: dict[str, Shape] = {"X-Deadline-Ms": {"type": "string", "pattern": "^[1-9][0-9]{0,5}$"}}
_UNREVIEWED: dict[str, Shape] = {
    "state": one_of(("unreviewed",)),
    "limit": {"type": "string", "pattern": "^([1-9][0-9]?|100)$"},
    "after": {"type": "string", "pattern": "^[0-9]{1,18}-[0-9]{1,18}-[0-9]{1,18}$"},
    "order": one_of(("desc",)),
}
_PAGE: dict[str, Shape] = {
    "limit": {"type": "string", "pattern": "^([1-9][0-9]?|100)$"},
    "after": TOKEN,
    "order": one_of(("desc",)),
}

_JOBS = _PAGE | {"state": one_of(jobs.STATES), "batch": TOKEN}

OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/openapi.json", "This document", key=False),
    Operation("GET", "/v1/status", "Whether the box answers, and which model", "Status", key=False),
    Operation("HEAD", "/v1/status", "The same, without the words", key=False),
    Operation("GET", "/v1/models", "The approved model that serves, or none", "Models"),
    Operation("GET", "/v1/models/{model}", "One model", "Model", codes=frozenset({"model_not_found", "no_model"})),
    Operation(
        "POST", "/v1/chat/completions", "A draft from a record, or the next turn of a conversation", "Completion",
        takes="ChatRequest", also=(EVENTS,), codes=ASK, headers=_DEADLINE,
    ),
    Operation(
        "POST", "/v1/completions", "A text goes on", "TextCompletion",
        takes="CompletionRequest", also=(EVENTS,), codes=ASK, headers=_DEADLINE,
    ),
    Operation("POST", "/v1/embeddings", "Texts become vectors", "Embeddings", takes="EmbeddingRequest", codes=ASK,
        headers=_DEADLINE),
    Operation(
        "POST", "/v1/audio/transcriptions", "A recording becomes text", "Transcription",
        takes="TranscriptionForm", media=FORM, also=(PLAIN,), headers=_DEADLINE,
        codes=READ | FIELDS | MAY | RUN | {"audio_unsupported"},
    ),
    Operation("GET", "/v1/tasks", "Every task, and what this key may do with it", "Tasks"),
    Operation("GET", "/v1/tasks/{task}", "One task", "Task", codes=frozenset({"not_found"})),
    Operation(
        "POST", "/v1/tasks/{task}", "A record in, a checked draft out", "Draft",
        takes="TaskRequest", codes=ASK | {"not_found"}, headers=_DEADLINE,
    ),
    Operation(
        "GET", "/v1/decisions", "Drafts that wait for somebody's decision", "Unreviewed",
        query=_UNREVIEWED, needed=("state",), codes=FIELDS | ROWS,
    ),
    Operation(
        "POST", "/v1/decisions", "What a person did with a draft", "Decision",
        takes="DecisionRequest", codes=BODY | REACH | {"request_not_found", "no_draft", "already_decided"},
    ),
    Operation(
        "GET", "/v1/explain/{request_id}", "A receipt resolved", "Explanation", codes=REACH | {"request_not_found"},
    ),
    Operation(
        "POST", "/v1/responses", "A response at once, streamed, or in the background", "Response",
        takes="ResponseRequest", also=(EVENTS,), headers=_DEADLINE | _RETRY, codes=ASK | KEPT,
    ),
    Operation(
        "GET", "/v1/responses/{response}", "How a background response stands", "Response",
        codes=REACH | {"response_not_found", "unknown_field", "out_of_range"},
    ),
    Operation(
        "DELETE", "/v1/responses/{response}", "Forget a background response that has ended", "Deleted",
        codes=REACH | {"response_not_found", "job_unfinished"},
    ),
    Operation(
        "POST", "/v1/responses/{response}/cancel", "Stop a background response", "Response",
        codes=REACH | {"response_not_found", "unknown_field", "out_of_range"},
    ),
    Operation("GET", "/v1/jobs", "The client's jobs, newest first", "Jobs", query=_JOBS,
        codes=ROWS | FIELDS | {"job_not_found", "batch_not_found"}),
    Operation(
        "POST", "/v1/jobs", "Work that can wait", "Accepted", takes="JobRequest", headers=_RETRY, status=202,
        codes=BODY | MAY | KEPT,
    ),
    Operation("GET", "/v1/jobs/{job}", "How a job stands, and its answer", "Job", codes=REACH | {"job_not_found"}),
    Operation(
        "POST", "/v1/jobs/{job}/cancel", "Stop a job", "Cancelled", codes=REACH | {"job_not_found", "job_finished"},
    ),
    Operation(
        "DELETE", "/v1/jobs/{job}", "Forget a job that has ended", "Deleted",
        codes=REACH | {"job_not_found", "job_unfinished", "job_of_batch"},
    ),
    Operation(
        "GET", "/v1/files", "The client's files, newest first", "Files", query=_PAGE | {"purpose": TOKEN},
        codes=ROWS | FIELDS | {"file_not_found"},
    ),
    Operation(
        "POST", "/v1/files", "Store the lines of a batch", "File", takes="FileForm", media=FORM,
        codes=ROWS | READ | FIELDS | {"storage_full", "too_many_lines"},
    ),
    Operation("GET", "/v1/files/{file}", "One file", "File", codes=REACH | {"file_not_found"}),
    Operation("GET", "/v1/files/{file}/content", "Its lines", also=(LINES,), codes=REACH | {"file_not_found"}),
    Operation("DELETE", "/v1/files/{file}", "Forget a file", "Deleted", codes=REACH | {"file_not_found", "file_in_use"}),
    Operation("GET", "/v1/batches", "The client's batches, newest first", "Batches", query=_PAGE,
        codes=ROWS | FIELDS | {"batch_not_found"}),
    Operation(
        "POST", "/v1/batches", "Ask every line of a file", "Batch", takes="BatchRequest", headers=_RETRY,
        codes=BODY | KEPT | REACH | LINE | {"file_not_found", "storage_full"},
    ),
    Operation("GET", "/v1/batches/{batch}", "How a batch stands", "Batch", codes=REACH | {"batch_not_found"}),
    Operation(
        "POST", "/v1/batches/{batch}/cancel", "Stop a batch", "Batch", codes=REACH | {"batch_not_found", "batch_finished"},
    ),
)  # fmt: skip
