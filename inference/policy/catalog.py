"""The registered tasks and purposes, as data.

Decides which fields of a record may reach the model for each task, in which order, and with which instruction. Who may
use a task is the client's rights; whether a request may pass is `rules`. The evaluation model is trained on exactly
these instructions and orders, so a changed line here is a changed model input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


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


@dataclass(frozen=True)
class Task:
    """One registered use: its allowed fields in the order the model sees them, and its instruction."""

    id: str
    title: str
    fields: tuple[str, ...]
    instruction: str


_ALL = (
    Task(
        "progress_note",
        "Progress note",
        ("age", "sex", "visit_reason", "diagnoses", "codes", "medications", "lab_values", "plan"),
        "Write a progress note from this record.",
    ),
    Task(
        "prior_auth_letter",
        "Prior authorization letter",
        ("age", "sex", "diagnoses", "codes", "requested_service", "medications", "justification"),
        "Write a prior authorization letter from this record.",
    ),
    Task(
        "patient_message",
        "Message to the patient",
        ("language", "age", "diagnoses", "medications", "topic", "follow_up"),
        "Write a message to the patient from this record in the given language.",
    ),
    Task(
        "appointment_reminder",
        "Appointment reminder",
        ("language", "department", "date", "time", "preparation"),
        "Write an appointment reminder from this record in the given language.",
    ),
    Task(
        "visit_summary",
        "Visit summary",
        ("age", "sex", "visit_reason", "diagnoses", "codes", "medications", "follow_up"),
        "Write a visit summary from this record.",
    ),
    Task(
        "urgency_classification",
        "Urgency classification",
        ("age", "sex", "complaint", "vital_signs"),
        "Classify the urgency of this message: emergency, urgent or routine.",
    ),
)

TASKS: Mapping[str, Task] = MappingProxyType({task.id: task for task in _ALL})
PURPOSES: tuple[str, ...] = tuple(purpose.value for purpose in Purpose)
LANES: tuple[str, ...] = tuple(lane.value for lane in Lane)
