"""The registered tasks and purposes, as data.

Decides which fields of a record may reach the model for each task, in which order, and with which instruction. Who may
use a task is the client's rights; whether a request may pass is `rules`. The evaluation model is trained on exactly
these instructions and orders, so a changed line here is a changed model input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Purpose(StrEnum):
    """HL7 v3 value set GeneralPurposeOfUse, whole: why somebody asks."""

    COVERAGE = "COVERAGE"
    ETREAT = "ETREAT"
    HMARKT = "HMARKT"
    HOPERAT = "HOPERAT"
    HPAYMT = "HPAYMT"
    HRESCH = "HRESCH"
    PATRQT = "PATRQT"
    PUBHLTH = "PUBHLTH"
    TREAT = "TREAT"

    @property
    def label(self) -> str:
        """HL7's display name."""
        return _PURPOSE_LABELS[self]


_PURPOSE_LABELS = {
    Purpose.COVERAGE: "coverage under policy or program",
    Purpose.ETREAT: "emergency treatment",
    Purpose.HMARKT: "healthcare marketing",
    Purpose.HOPERAT: "healthcare operations",
    Purpose.HPAYMT: "healthcare payment",
    Purpose.HRESCH: "healthcare research",
    Purpose.PATRQT: "patient requested",
    Purpose.PUBHLTH: "public health",
    Purpose.TREAT: "treatment",
}


class DataClass(StrEnum):
    """What a request says its record is. Unlabelled is PHI."""

    PHI = "phi"
    DEIDENTIFIED = "deidentified"
    SYNTHETIC = "synthetic"


class Lane(StrEnum):
    """How urgent a client's work is. Bound to the client by the hospital, never chosen by the caller."""

    STAT = "stat"
    INTERACTIVE = "interactive"
    BATCH = "batch"


class Feature(StrEnum):
    """What a client may ask of the engine beyond text. None is granted by default."""

    JSON_SCHEMA = "json_schema"
    LOGPROBS = "logprobs"
    TOOLS = "tools"


class Form(StrEnum):
    """What a task is asked with."""

    RECORD = "record"
    CONVERSATION = "conversation"
    TEXTS = "texts"
    AUDIO = "audio"


class Capability(StrEnum):
    """What a served model can be asked for; a fact of the change that serves it."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    TRANSCRIPTIONS = "transcriptions"


class Check(StrEnum):
    """What a draft is held against before it may leave (`checks`)."""

    CODES = "codes"
    SCHEMA = "schema"


@dataclass(frozen=True)
class Task:
    """One registered use: its allowed fields in the order the model sees them, and its instruction."""

    id: str
    title: str
    fields: tuple[str, ...]
    instruction: str
    form: Form = Form.RECORD
    checks: frozenset[Check] = frozenset()
    patient_facing: bool = False
    """The answer ends with the disclosure that it was made by AI, in the record's language."""
    record_schema: Mapping[str, Any] | None = field(default=None, repr=False)
    """The JSON Schema the record must have. With one, a field that is not listed refuses the record: none is dropped."""
    schema: Mapping[str, Any] | None = field(default=None, repr=False)
    """The JSON Schema every answer has."""


DISCLOSURE: Mapping[str, str] = MappingProxyType(
    {
        "en": "This message was written with the help of artificial intelligence.",
        "es": "Este mensaje fue redactado con ayuda de inteligencia artificial.",
    }
)
"""EU AI Act, Art. 50: who is written to by a machine is told so. A language without a text here is refused."""

SQL_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "properties": {"sql": {"type": "string", "minLength": 1, "maxLength": 8000}},
        "required": ["sql"],
        "additionalProperties": False,
    }
)

_NAME: Mapping[str, Any] = {"type": "string", "minLength": 1, "maxLength": 128}
_TABLES: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "properties": {
            "dialect": {"enum": ["duckdb", "mssql", "mysql", "oracle", "postgresql", "snowflake", "sqlite"]},
            "question": {"type": "string", "minLength": 1, "maxLength": 1000},
            "tables": {
                "type": "array",
                "minItems": 1,
                "maxItems": 100,
                "items": {
                    "type": "object",
                    "properties": {
                        "name": _NAME,
                        "columns": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 500,
                            "items": {
                                "type": "object",
                                "properties": {"name": _NAME, "type": _NAME},
                                "required": ["name", "type"],
                                "additionalProperties": False,
                            },
                        },
                    },
                    "required": ["name", "columns"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["dialect", "question", "tables"],
        "additionalProperties": False,
    }
)
"""Names and types of columns, and nothing in which a row could travel (S1-16)."""

_CODES = frozenset({Check.CODES})

_ALL = (
    Task(
        "progress_note",
        "Progress note",
        ("age", "sex", "visit_reason", "diagnoses", "codes", "medications", "lab_values", "plan"),
        "Write a progress note from this record.",
        checks=_CODES,
    ),
    Task(
        "prior_auth_letter",
        "Prior authorization letter",
        ("age", "sex", "diagnoses", "codes", "requested_service", "medications", "justification"),
        "Write a prior authorization letter from this record.",
        checks=_CODES,
    ),
    Task(
        "patient_message",
        "Message to the patient",
        ("language", "age", "diagnoses", "medications", "topic", "follow_up"),
        "Write a message to the patient from this record in the given language.",
        checks=_CODES,
        patient_facing=True,
    ),
    Task(
        "appointment_reminder",
        "Appointment reminder",
        ("language", "department", "date", "time", "preparation"),
        "Write an appointment reminder from this record in the given language.",
        patient_facing=True,
    ),
    Task(
        "visit_summary",
        "Visit summary",
        ("age", "sex", "visit_reason", "diagnoses", "codes", "medications", "follow_up"),
        "Write a visit summary from this record.",
        checks=_CODES,
    ),
    Task(
        "urgency_classification",
        "Urgency classification",
        ("age", "sex", "complaint", "vital_signs"),
        "Classify the urgency of this message: emergency, urgent or routine.",
        checks=_CODES,
    ),
    Task(
        "text_polishing",
        "Text polishing",
        ("language", "text"),
        "Correct spelling, grammar and punctuation of this text in its language. Change no fact, number or code.",
        checks=_CODES,
    ),
    Task(
        "data_analyst",
        "Question to SQL",
        ("dialect", "tables", "question"),
        "Write one read-only SQL query in the given dialect that answers the question over these tables.",
        checks=frozenset({Check.SCHEMA}),
        record_schema=_TABLES,
        schema=SQL_SCHEMA,
    ),
    Task("transcription", "Transcription of a recording", (), "", form=Form.AUDIO),
    Task("embedding", "Embedding of texts", (), "", form=Form.TEXTS),
    Task("conversation", "Conversation in free text", (), "", form=Form.CONVERSATION),
)

TASKS: Mapping[str, Task] = MappingProxyType({task.id: task for task in _ALL})
PURPOSES: tuple[str, ...] = tuple(purpose.value for purpose in Purpose)
LANES: tuple[str, ...] = tuple(lane.value for lane in Lane)
FEATURES: tuple[str, ...] = tuple(feature.value for feature in Feature)
