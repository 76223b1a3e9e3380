"""A made-up record for each task, to try a served model with. Nobody's: no name, no date of a birth, no number of a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_PATIENT: Mapping[str, Any] = {
    "age": 71,
    "sex": "female",
    "diagnoses": ["acute bronchitis"],
    "codes": ["J20.9"],
    "medications": ["amoxicillin 500 mg three times daily for 7 days"],
}
_RECORDS: Mapping[str, Mapping[str, Any]] = {
    "progress_note": {
        **_PATIENT,
        "visit_reason": "cough for five days",
        "lab_values": ["CRP 38 mg/L", "leukocytes 11.2 G/L"],
        "plan": "antibiotic, rest, review in one week",
    },
    "prior_auth_letter": {
        "age": 58,
        "sex": "female",
        "diagnoses": ["type 2 diabetes mellitus"],
        "codes": ["E11.9"],
        "requested_service": "continuous glucose monitoring",
        "medications": ["metformin 1000 mg twice daily"],
        "justification": "glucose remains above target despite two medications",
    },
    "patient_message": {
        "language": "en",
        "age": 71,
        "diagnoses": ["acute bronchitis"],
        "medications": ["amoxicillin 500 mg three times daily for 7 days"],
        "topic": "how to take the medicine",
        "follow_up": "in one week",
    },
    "appointment_reminder": {
        "language": "en",
        "department": "Radiology",
        "date": "2027-03-01",
        "time": "09:30",
        "preparation": "nothing to eat for four hours before",
    },
    "visit_summary": {**_PATIENT, "visit_reason": "cough for five days", "follow_up": "in one week"},
    "urgency_classification": {
        "age": 64,
        "sex": "male",
        "complaint": "pressure on the chest for one hour, pain in the left arm",
        "vital_signs": ["pulse 104", "blood pressure 158/94"],
    },
    "text_polishing": {"language": "en", "text": "the pateint were seen today and he feel better then yesterday"},
    "data_analyst": {
        "dialect": "postgresql",
        "question": "How many visits were there in each department last month?",
        "tables": [
            {
                "name": "visits",
                "columns": [
                    {"name": "id", "type": "bigint"},
                    {"name": "department", "type": "text"},
                    {"name": "began", "type": "timestamptz"},
                ],
            }
        ],
    },
}
_CONVERSATION = "Explain in two sentences what a differential diagnosis is."


def sample(task: str) -> str:
    """The text that stands in the field when the page opens; empty for a task that is not asked with text."""
    if task == "conversation":
        return _CONVERSATION
    record = _RECORDS.get(task)
    return json.dumps(record, indent=2, ensure_ascii=False) if record else ""
