"""Every refusal in words, and the page made of them: `python -m inference.api.errors_page > docs/api/errors.md`.

Decides what the page says. Which codes there are, with their status, is `errors.TABLE`; a test holds the two and the page
together, so that a new code cannot be without words.
"""

from __future__ import annotations

import sys

from inference.api.errors import TABLE

ASK_AGAIN = "Ask again after `Retry-After`."
FIX = "Fix the request; the same one is refused again."
TELL = "Give the request id to the hospital's IT."
GRANT = "Ask the hospital to grant it, or do without."

# Each code: what it means, and what to do. Grouped as the table is.
WORDS: dict[str, dict[str, tuple[str, str]]] = {
    "The message": {
        "bad_host": ("The `Host` header is not a name of this box.", "Use the name the hospital gave you."),
        "not_found": ("There is nothing at that path, in that very spelling.", "See `/openapi.json`."),
        "method_not_allowed": ("The path does not take that method.", "Use one of those in `Allow`."),
        "body_timeout": ("The body did not arrive in time.", "Send it faster, on a new connection."),
        "body_too_large": ("The body, or a file in it, is larger than it may be.", FIX),
        "unsupported_media_type": (
            "The body does not call itself `application/json` (or a form, where one is taken), or is compressed.",
            FIX,
        ),
        "invalid_idempotency_key": ("`Idempotency-Key` is 1 to 128 printable ASCII characters.", FIX),
        "invalid_deadline": ("`X-Deadline-Ms` is one whole number from 1 to 3,600,000.", FIX),
    },
    "The body": {
        "invalid_json": ("It is not one JSON document in UTF-8, or not an object.", FIX),
        "too_deep": ("It is nested deeper than 32.", FIX),
        "too_many_values": ("It holds more values than a body may.", FIX),
        "duplicate_key": ("A key, or a field of a form, stands there twice.", FIX),
        "invalid_number": ("A number is not finite, or longer than 32 characters.", FIX),
        "unknown_field": ("`param` names a field that is not taken here.", "Leave it out."),
        "missing_field": ("`param` names a field that must be there.", FIX),
        "wrong_type": ("The value of `param` has another type.", FIX),
        "out_of_range": ("The value of `param` is outside its bounds.", FIX),
        "record_required": ("The task takes one user message whose content is a JSON object: the record.", FIX),
        "schema_limit": (
            "A JSON Schema is too large, too deep, refers in a circle, or uses a keyword that is not taken.",
            "Make it smaller: 128 nodes, 5 levels, 64 KiB with each reference in its place (all tools 256 KiB), no `pattern`.",
        ),
    },
    "Who asks": {
        "invalid_api_key": (
            "There is no such key, or it has expired or was revoked. It is never said which.",
            "Send `Authorization: Bearer` and a key that is valid, once.",
        ),
        "end_user_required": ("This client's users must be proved.", "Send `X-End-User-Assertion`."),
        "invalid_end_user_assertion": ("The assertion proves nothing; the message says which check failed.", FIX),
        "end_user_mismatch": ("`user` names somebody else than the assertion does.", "Leave `user` out."),
        "source_not_allowed": ("The key may not be used from this address.", GRANT),
        "client_certificate_required": ("The key needs its client certificate.", "Connect with it."),
        "rights_withdrawn": (
            "The rights were withdrawn while the request waited or ran.",
            "Do not ask again with this key.",
        ),
        "not_your_work": (
            "The work was asked for a user whom an assertion proved, and the request is not that user's.",
            "Send that user's assertion.",
        ),
    },
    "What may be asked": {
        "purpose_required": ("No purpose was named.", "Set `metadata.purpose`."),
        "purpose_unknown": ("The purpose is none of HL7's GeneralPurposeOfUse.", FIX),
        "purpose_not_granted": ("The key, or the user, has not that purpose.", GRANT),
        "task_required": ("No task was named.", "Set `metadata.task`."),
        "task_unknown": ("There is no task by that name.", "See `GET /v1/tasks`."),
        "task_not_granted": ("The key, or the user, has not that task.", GRANT),
        "task_form": (
            "The task is asked with something else; or with tools or a form for the answer, and is no conversation.",
            FIX,
        ),
        "phi_not_granted": (
            "The key may not send PHI, and data without a label is PHI.",
            "Label it, or ask for the grant.",
        ),
        "data_class_conflict": ("A record with a `patient_id` is PHI, whatever its label says.", FIX),
        "model_not_found": ("That model is not served.", "Name `default`, or the id in `GET /v1/models`."),
        "model_not_granted": ("The key may not use the model that is served.", GRANT),
        "feature_not_granted": ("Tools, JSON schemas or log probabilities are not granted.", GRANT),
        "tool_not_granted": ("A tool is offered whose name is not granted.", GRANT),
        "model_cannot": ("The served model was not approved for that kind of work.", "Do without, until one is."),
        "task_not_routed": ("No approved change routes the task to a model.", "Ask the hospital to approve one."),
        "record_empty": ("The record holds none of the task's fields.", "See `GET /v1/tasks`."),
        "record_not_allowed": ("The record has another form than this task takes, down to the last field.", FIX),
        "language_unsupported": (
            "There is no disclosure in that language, so no patient may be written to in it.",
            FIX,
        ),
        "special_token_in_content": (
            "The content holds text that the model's tokenizer reads as a control token, in whatever case or width.",
            "Remove it.",
        ),
        "context_length": ("Prompt and answer do not fit the model's context.", "Send less, or ask for fewer tokens."),
        "audio_unsupported": ("The recording is not WAV, FLAC, OGG or MP3.", FIX),
    },
    "Room and time": {
        "client_queue_full": ("This client has as much running, or as many calls at once, as it may.", ASK_AGAIN),
        "queue_full": ("Every place is taken.", ASK_AGAIN),
        "deadline_exceeded": ("The answer would have come, or came, too late for `X-Deadline-Ms`.", ASK_AGAIN),
        "gpu_pressure": ("The cards are too hot or too full for work of this lane.", ASK_AGAIN),
        "too_many_jobs": ("The client has as many unfinished jobs as it may.", ASK_AGAIN),
        "storage_full": ("The client has stored as much as it may.", "Delete files, or wait until they expire."),
    },
    "The box": {
        "no_model": ("No approved model is being served.", ASK_AGAIN),
        "rights_stale": ("The box cannot read its rights now, so nobody is let in.", ASK_AGAIN),
        "audit_unavailable": (
            "The request cannot be put on record, so it is not answered; in a stream, it is not whole.",
            ASK_AGAIN,
        ),
        "database_unavailable": ("The database does not answer; nothing was accepted.", ASK_AGAIN),
        "engine_unavailable": ("The model's engine does not take work now.", ASK_AGAIN),
        "engine_failed": ("The engine failed in the middle.", "Ask again once; then tell the hospital's IT."),
        "engine_protocol": ("The engine answered with something that is no answer.", TELL),
        "engine_refused": ("The engine did not take a request of ours.", TELL),
        "engine_timeout": ("The engine fell silent, or took longer than a generation may.", "Ask again, for less."),
        "draft_refused": (
            "The draft failed a check: an invented code, or not the JSON it must be. It does not leave the box.",
            "Ask again, or differently.",
        ),
        "internal_error": ("A fault of ours. It says nothing on purpose.", TELL),
    },
    "Earlier work": {
        "request_not_found": ("This client made no such request.", FIX),
        "no_draft": ("The request came to no finished answer, so there is nothing to decide about.", FIX),
        "already_decided": ("The first decision stands.", "Leave it."),
        "job_not_found": ("There is no job by that id, or it is another client's.", FIX),
        "response_not_found": ("There is no background response by that id, or its life is over.", FIX),
        "job_finished": ("It has ended and cannot be cancelled.", "Read it."),
        "job_unfinished": ("It has not ended and cannot be deleted.", "Cancel it first."),
        "job_of_batch": ("It is a line of a batch and goes with it.", "Delete the batch's files."),
        "idempotency_conflict": ("The `Idempotency-Key` came before with another body.", "Use another key."),
        "busy": ("A job, file or batch is being worked on just now; nothing was done.", ASK_AGAIN),
        "file_not_found": ("There is no file by that id, or it is another client's.", FIX),
        "file_in_use": ("A batch is being made of it just now.", "Ask again in a moment."),
        "batch_not_found": ("There is no batch by that id, or it is another client's.", FIX),
        "batch_finished": ("It has ended and cannot be cancelled.", "Read its output."),
        "too_many_lines": ("The file has more lines than a batch may.", "Split it."),
        "line_too_long": ("One line of the file is too long; in the error file.", FIX),
        "duplicate_custom_id": ("Two lines have one `custom_id`; in the error file.", FIX),
    },
}

_HEAD = """\
# Refusals of the LAN API

Generated from the code by `make docs`; a test holds the two together.

Every refusal has OpenAI's shape: `{"error": {"message", "type", "param", "code", "request_id"}}`. **Branch on `code`**: it is
stable. The message says what to do and never quotes what was sent. In a stream that had begun, the same object is the last
event, and neither a receipt nor `[DONE]` follows it. Every refusal is on record under its request id.
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [_HEAD]
    for title, codes in WORDS.items():
        parts.append(f"\n## {title}\n\n| code | status | what it means | what to do |\n|---|---|---|---|\n")
        parts += [f"| `{code}` | {TABLE[code][0]} | {means} | {do} |\n" for code, (means, do) in codes.items()]
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
