"""Every refusal of the LAN API, in one table: its code, its HTTP status and OpenAI's type for it.

A code is stable: clients may rely on it. The message says what to do and never quotes what was sent. Anything that is
not in the table is a bug of ours, and is a 500 that says nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from appliance.audit.errors import AuditUnavailableError
from inference.admission.errors import AdmissionError
from inference.drafts.errors import DraftError
from inference.engines.errors import EngineError
from inference.policy.errors import PolicyRefusal
from inference.queue.errors import QueueError

log = logging.getLogger(__name__)

_REQUEST = "invalid_request_error"
_SERVER = "server_error"

# Each code with its HTTP status and OpenAI's type.
TABLE: dict[str, tuple[int, str]] = {
    # the message itself
    "bad_host": (400, _REQUEST),
    "not_found": (404, _REQUEST),
    "method_not_allowed": (405, _REQUEST),
    "body_timeout": (408, _REQUEST),
    "body_too_large": (413, _REQUEST),
    "unsupported_media_type": (415, _REQUEST),
    # the body
    "invalid_json": (400, _REQUEST),
    "too_deep": (400, _REQUEST),
    "too_many_values": (400, _REQUEST),
    "duplicate_key": (400, _REQUEST),
    "invalid_number": (400, _REQUEST),
    "unknown_field": (400, _REQUEST),
    "missing_field": (400, _REQUEST),
    "wrong_type": (400, _REQUEST),
    "out_of_range": (400, _REQUEST),
    "record_required": (400, _REQUEST),
    "invalid_idempotency_key": (400, _REQUEST),
    "invalid_deadline": (400, _REQUEST),
    # rights
    "invalid_api_key": (401, "authentication_error"),
    "end_user_required": (401, "authentication_error"),
    "invalid_end_user_assertion": (401, "authentication_error"),
    "end_user_mismatch": (400, _REQUEST),
    "source_not_allowed": (403, "permission_error"),
    "client_certificate_required": (403, "permission_error"),
    "purpose_required": (400, _REQUEST),
    "purpose_unknown": (400, _REQUEST),
    "purpose_not_granted": (403, "permission_error"),
    "task_required": (400, _REQUEST),
    "task_unknown": (400, _REQUEST),
    "task_not_granted": (403, "permission_error"),
    "phi_not_granted": (403, "permission_error"),
    "data_class_conflict": (400, _REQUEST),
    "rights_withdrawn": (403, "permission_error"),
    "not_your_work": (403, "permission_error"),
    "model_not_granted": (403, "permission_error"),
    "feature_not_granted": (403, "permission_error"),
    "tool_not_granted": (403, "permission_error"),
    # the record and the model
    "record_empty": (400, _REQUEST),
    "special_token_in_content": (400, _REQUEST),
    "context_length": (400, _REQUEST),
    "record_not_allowed": (400, _REQUEST),
    "language_unsupported": (400, _REQUEST),
    "task_form": (400, _REQUEST),
    "task_not_routed": (400, _REQUEST),
    "schema_limit": (400, _REQUEST),
    "draft_refused": (502, _SERVER),
    "model_not_found": (404, _REQUEST),
    "model_cannot": (400, _REQUEST),
    "audio_unsupported": (400, _REQUEST),
    # room
    "client_queue_full": (429, "rate_limit_error"),
    "queue_full": (429, "rate_limit_error"),
    "deadline_exceeded": (503, _SERVER),
    "gpu_pressure": (503, _SERVER),
    # the box
    "audit_unavailable": (503, _SERVER),
    "database_unavailable": (503, _SERVER),
    "no_model": (503, _SERVER),
    "rights_stale": (503, _SERVER),
    "engine_unavailable": (503, _SERVER),
    "engine_failed": (502, _SERVER),
    "engine_protocol": (502, _SERVER),
    "engine_refused": (502, _SERVER),
    "engine_timeout": (504, _SERVER),
    "internal_error": (500, _SERVER),
    # what became of a request
    "request_not_found": (404, _REQUEST),
    "no_draft": (409, _REQUEST),
    "already_decided": (409, _REQUEST),
    # jobs
    "job_not_found": (404, _REQUEST),
    "response_not_found": (404, _REQUEST),
    "idempotency_conflict": (409, _REQUEST),
    "job_finished": (409, _REQUEST),
    "job_unfinished": (409, _REQUEST),
    "job_of_batch": (409, _REQUEST),
    "too_many_jobs": (429, "rate_limit_error"),
    "busy": (503, _SERVER),
    # files and batches
    "file_not_found": (404, _REQUEST),
    "file_in_use": (409, _REQUEST),
    "storage_full": (429, "rate_limit_error"),
    "too_many_lines": (400, _REQUEST),
    "batch_not_found": (404, _REQUEST),
    "batch_finished": (409, _REQUEST),
    # one line of a batch
    "line_too_long": (400, _REQUEST),
    "duplicate_custom_id": (400, _REQUEST),
}

_RETRY_AFTER_S = {"audit_unavailable": 2, "database_unavailable": 2, "engine_unavailable": 5}


# Where a line of a batch has no refusal of its own in words.
_SAID = {
    "cancelled": "the batch was cancelled before this line was done",
    "batch_expired": "the batch's window was over before this line was done",
    "rights_withdrawn": "this key's rights were withdrawn",
}


def say(code: str) -> str:
    """A code in words, for work that ended when nobody listened."""
    return _SAID.get(code, "this line was tried and could not be answered")


class BadRequestError(Exception):
    """The message or its body is not one we take. Decided here, at the door."""

    def __init__(self, code: str, message: str, *, param: str | None = None, allow: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.param = param
        self.allow = allow


@dataclass(frozen=True)
class Refusal:
    """A refusal as it goes over the wire."""

    status: int
    code: str
    type: str
    message: str
    param: str | None = None
    retry_after_s: int | None = None
    allow: str = ""

    def body(self, request_id: str) -> dict[str, Any]:
        """OpenAI's error object, with the request's id."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
                "request_id": request_id,
            }
        }


def refusal(error: Exception) -> Refusal:
    """What to answer for an exception of any of our families; a 500 that says nothing for anything else."""
    match error:
        case BadRequestError():
            return replace(_row(error.code, error.message, param=error.param), allow=error.allow)
        case PolicyRefusal():
            return _row(error.code, error.message, param=error.param)
        case AdmissionError():
            return _row(error.code, error.message, retry_after_s=error.retry_after_s)
        case DraftError():
            return _row(error.code, error.message)
        case QueueError():
            return _row(error.code, error.message, retry_after_s=error.retry_after_s)
        case EngineError():
            return _row(error.code, error.message)
        case AuditUnavailableError():
            return _row("audit_unavailable", "the request cannot be put on record, so it is not answered; ask again")
        case _:
            # The type and the place only: an exception's text can hold what was sent.
            log.error("api_bug", exc_info=error)
            return _row("internal_error", "this is a fault of the appliance; give the request id to your administrator")


def _row(code: str, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> Refusal:
    status, kind = TABLE[code]
    return Refusal(
        status=status,
        code=code,
        type=kind,
        message=message,
        param=param,
        retry_after_s=retry_after_s if retry_after_s is not None else _RETRY_AFTER_S.get(code),
    )
