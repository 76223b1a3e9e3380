"""Writes what travels beside the evaluation model's weights: its card and its golden cases.

    python -m provisioning.evaluation.card --model var/evaluation-model

The card repeats the figures of ``measured.json`` and the plan of ``training.json``; it promises nothing of its own.
A golden case is a record, the facts its answer must hold and the codes it may name; every name in it is made up or
public. Needs only the standard library.
"""

import argparse
import json
from pathlib import Path
from typing import Any, Final

from provisioning.evaluation import checker, clinical
from provisioning.evaluation.wording import Record

USE: Final = "Demonstrates the appliance. Not for clinical use."
LIMITS: Final = (
    "Not for clinical use: it knows no medicine and copies what the record says, right or wrong.",
    "Answers only the six tasks of provisioning/evaluation/clinical.py, in their fixed request form.",
    "Urgency follows a toy rule over a short list of complaints; any other complaint is a guess.",
    "Spanish answers keep diagnoses and drug names as the record gives them.",
    "Names and codes never seen in training are copied less surely than known ones; see measured.",
    "Records longer than about 450 tokens or lists of more than five entries were not trained.",
)

GOLDEN: Final[tuple[tuple[str, Record], ...]] = (
    (
        "progress_note",
        {
            "age": 64,
            "sex": "male",
            "visit_reason": "diabetes follow-up",
            "diagnoses": ["type 2 diabetes mellitus", "essential hypertension"],
            "codes": ["E11.9", "I10"],
            "medications": ["metformin 1000 mg twice daily", "lisinopril 20 mg once daily"],
            "lab_values": ["HbA1c 7.9 %", "creatinine 1.1 mg/dL"],
            "plan": "continue current medications; repeat HbA1c in 3 months",
        },
    ),
    (
        "progress_note",
        {
            "age": 41,
            "sex": "female",
            "visit_reason": "chronic cough",
            "diagnoses": ["moderate persistent asthma"],
            "codes": ["J45.40"],
            "medications": ["fluticasone inhaler 110 mcg twice daily", "montelukast 10 mg at bedtime"],
            "plan": "return in 6 weeks",
        },
    ),
    (
        "prior_auth_letter",
        {
            "age": 58,
            "sex": "female",
            "diagnoses": ["type 2 diabetes mellitus", "essential hypertension"],
            "codes": ["E11.9", "I10", "95251"],
            "requested_service": "continuous glucose monitoring",
            "medications": ["metformin 1000 mg twice daily", "lisinopril 20 mg once daily"],
            "justification": "glucose remains above target despite two medications",
        },
    ),
    (
        "prior_auth_letter",
        {
            "age": 47,
            "sex": "male",
            "diagnoses": ["lumbar radiculopathy"],
            "codes": ["M54.16", "72148"],
            "requested_service": "MRI of the lumbar spine without contrast",
            "medications": ["naproxen 500 mg twice daily", "gabapentin 300 mg at bedtime"],
            "justification": "symptoms persist after 6 weeks of conservative treatment",
        },
    ),
    (
        "patient_message",
        {
            "language": "en",
            "age": 72,
            "diagnoses": ["atrial fibrillation"],
            "medications": ["apixaban 5 mg twice daily"],
            "topic": "your new medication",
            "follow_up": "return in 2 weeks",
        },
    ),
    (
        "patient_message",
        {
            "language": "es",
            "age": 35,
            "diagnoses": ["hypothyroidism", "iron deficiency anemia"],
            "medications": ["levothyroxine 75 mcg every morning", "ferrous sulfate 325 mg once daily"],
            "topic": "sus resultados de laboratorio",
            "follow_up": "análisis de sangre en 6 semanas",
        },
    ),
    (
        "appointment_reminder",
        {
            "language": "en",
            "department": "Radiology",
            "date": "March 14, 2027",
            "time": "10:30 AM",
            "preparation": "do not eat for 8 hours before the visit",
        },
    ),
    (
        "appointment_reminder",
        {
            "language": "es",
            "department": "Cardiología",
            "date": "9 de junio de 2027",
            "time": "08:15",
            "preparation": "traiga todos sus medicamentos",
        },
    ),
    (
        "visit_summary",
        {
            "age": 29,
            "sex": "female",
            "visit_reason": "burning with urination",
            "diagnoses": ["urinary tract infection"],
            "codes": ["N39.0"],
            "medications": ["nitrofurantoin 100 mg twice daily"],
            "follow_up": "return sooner if symptoms worsen",
        },
    ),
    (
        "visit_summary",
        {
            "age": 83,
            "sex": "male",
            "diagnoses": ["heart failure", "chronic kidney disease stage 3a", "gout"],
            "codes": ["I50.9", "N18.31", "M10.9"],
            "medications": ["furosemide 40 mg every morning", "allopurinol 100 mg once daily"],
            "follow_up": "see cardiology in 1 month",
        },
    ),
    (
        "urgency_classification",
        {
            "age": 61,
            "sex": "male",
            "complaint": "crushing chest pain spreading to the left arm",
            "vital_signs": "BP 148/92, HR 104, SpO2 95 %",
        },
    ),
    (
        "urgency_classification",
        {
            "age": 33,
            "sex": "female",
            "complaint": "request for a prescription refill",
            "vital_signs": "BP 118/74, HR 72, SpO2 99 %",
        },
    ),
    (
        "urgency_classification",
        {
            "age": 52,
            "sex": "female",
            "complaint": "painful swollen calf since yesterday",
            "vital_signs": "BP 126/80, HR 88, SpO2 97 %",
        },
    ),
)
FIRST_LINES: Final = {
    "crushing chest pain spreading to the left arm": "emergency",
    "request for a prescription refill": "routine",
    "painful swollen calf since yesterday": "urgent",
}


def golden() -> list[dict[str, Any]]:
    """Write each golden case with what its answer owes the record."""
    return [
        {
            "id": f"{task}-{number}",
            "task": task,
            "record": dict(record),
            "facts": [*([str(record["age"])] if "age" in record else []), *_facts(record)],
            "codes_allowed": list(checker.strings(record, "codes")),
            **({"first_line": FIRST_LINES[str(record["complaint"])]} if "complaint" in record else {}),
        }
        for number, (task, record) in enumerate(GOLDEN, start=1)
    ]


def _facts(record: Record) -> list[str]:
    """List what must stand in the answer word for word; of an appointment, its place and time."""
    lists = [item for field in ("diagnoses", "medications", "codes") for item in checker.strings(record, field)]
    return lists + [str(record[field]) for field in ("department", "date", "time") if field in record]


def card(training: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """Describe the model as the import check and the change board read it."""
    return {
        "name": "isoward-clinical-demo",
        "family": "qwen3",
        "architecture": "Qwen3ForCausalLM",
        "parameters": training["parameters"],
        "quantization": "none, bfloat16",
        "source": f"trained from scratch by provisioning/evaluation/train.py, {seeds(training)}",
        "converter": "none: written by transformers save_pretrained",
        "license": "Apache-2.0",
        "intended_use": USE,
        "languages": list(clinical.LANGUAGES),
        "tasks": list(clinical.TASKS),
        "limits": list(LIMITS),
        "golden_delta": "none: reference weights",
        "training": training,
        "measured": {
            "required": measured["required"],
            "met": measured["met"],
            "seed": measured["seed"],
            **{words: measured[words]["overall"] for words in ("known", "unseen", "made_up")},
        },
    }


def seeds(training: dict[str, Any]) -> str:
    """Name the seed of each run, the first one first."""
    runs = [training["continues"], training] if training.get("continues") else [training]
    return "seeds " + " then ".join(str(run["plan"]["seed"]) for run in runs)


def main() -> None:
    """Write both files into the model's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    folder: Path = parser.parse_args().model
    training, measured = (json.loads((folder / f"{name}.json").read_text()) for name in ("training", "measured"))
    for name, content in (("model_card", card(training, measured)), ("golden", {"cases": golden()})):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
