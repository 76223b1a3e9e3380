"""How an answer is worded: a few templates for each task, filled with the record's own words.

Rules every template keeps:

- a value of the record is written exactly as given, and what follows it is punctuation or a line end, so that
  the tokenizer cuts it the same way in the record and in the answer;
- a field that is missing leaves its sentence out;
- no code, drug or person is named that the record does not name, and nothing is signed.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

Record: TypeAlias = Mapping[str, object]
Part: TypeAlias = tuple[str, str, str]  # heading, body, tail: written only when the body is not empty

IMMEDIATE: Final = {
    "emergency": "so emergency care is needed now",
    "urgent": "so the patient should be seen today",
    "routine": "so a regular appointment is enough",
}


def text(record: Record, field: str) -> str:
    """Give one string of the record without a closing full stop; empty when it is missing."""
    return str(record.get(field, "")).rstrip(".")


def items(record: Record, field: str) -> tuple[str, ...]:
    """Give one list of the record; empty when it is missing."""
    value = record.get(field, ())
    return tuple(str(item) for item in value) if isinstance(value, Sequence) else ()


def patient(record: Record) -> str:
    """Say who the patient is with what is known: age, sex, both or neither."""
    sex = text(record, "sex")
    if "age" in record:
        return f"{record['age']}-year-old {sex or 'person'}"
    return f"{sex} patient" if sex else "patient"


def article(record: Record) -> str:
    """Choose "a" or "an" for the patient by how the age is read aloud."""
    age = str(record.get("age", ""))
    return "an" if age in {"8", "11", "18"} or (len(age) == 2 and age.startswith("8")) else "a"


def lines(*parts: Part) -> str:
    """Join heading, body and tail of each part whose body is not empty."""
    return "".join(head + body + tail for head, body, tail in parts if body)


def joined(record: Record, field: str, mark: str = "; ") -> str:
    """Write a list on one line."""
    return mark.join(items(record, field))


def listed(record: Record, field: str, one: str, many: str) -> Part:
    """Make a sentence of a list, headed for one entry or for several."""
    return (
        (one if len(items(record, field)) == 1 else many),
        joined(record, field, ", " if field == "codes" else "; "),
        ".",
    )


def bullets(record: Record, field: str) -> str:
    """Write a list with one entry on each line."""
    return "\n".join(f"- {item}" for item in items(record, field))


def progress_note(record: Record, rng: random.Random) -> str:
    """Word a progress note."""
    who, reason = patient(record), text(record, "visit_reason")
    diagnoses, codes = joined(record, "diagnoses"), joined(record, "codes", ", ")
    drugs, labs, plan = joined(record, "medications"), joined(record, "lab_values"), text(record, "plan")
    style = rng.randrange(3)
    if style == 0:
        seen = f"{who} seen for {reason}" if reason else f"{who} seen today"
        body = lines(
            ("Subjective: ", seen, ".\n"),
            ("Medications: ", drugs, ".\n"),
            ("Objective: ", labs, ".\n"),
            ("Assessment: ", diagnoses, ".\n"),
            ("Codes: ", codes, ".\n"),
            ("Plan: ", plan, ".\n"),
        )
        return f"Progress note\n\n{body}".rstrip()
    if style == 1:
        return lines(
            ("Progress note\n\nThe patient is ", f"{article(record)} {who}", "."),
            (" The reason for the visit is ", reason, "."),
            listed(record, "diagnoses", "\n\nThe active diagnosis is ", "\n\nThe active diagnoses are "),
            (" For coding: ", codes, "."),
            listed(record, "medications", " The current medication is ", " Current medications are "),
            (" Laboratory values show ", labs, "."),
            ("\n\nThe plan is to proceed as follows: ", plan, "."),
        )
    return lines(
        ("Progress note\n\nPatient: ", who, "\n"),
        ("Reason for visit: ", reason, "\n"),
        ("\nAssessment:\n", bullets(record, "diagnoses"), "\n"),
        ("Codes: ", codes, "\n"),
        ("\nMedications:\n", bullets(record, "medications"), "\n"),
        ("\nLaboratory values:\n", bullets(record, "lab_values"), "\n"),
        ("\nPlan: ", plan, "."),
    ).rstrip()


def prior_auth_letter(record: Record, rng: random.Random) -> str:
    """Word a prior authorization letter."""
    service, reason = text(record, "requested_service"), text(record, "justification")
    diagnoses, codes, drugs = joined(record, "diagnoses"), joined(record, "codes", ", "), joined(record, "medications")
    who = f"{article(record)} {patient(record)}"
    if rng.randrange(2):
        return lines(
            (
                "To whom it may concern:\n\nThis letter requests prior authorization",
                f" for the following: {service}." if service else ".",
                "",
            ),
            (" The patient is ", who, "."),
            listed(record, "diagnoses", " The diagnosis is ", " The diagnoses are "),
            listed(record, "codes", " The code for this request is ", " The codes for this request are "),
            listed(record, "medications", "\n\nThe current medication is ", "\n\nCurrent medications are "),
            (" The service is medically necessary for this reason: ", reason, "."),
            ("\n\n", "Please contact our office if more information is needed. Thank you for your review", "."),
        )
    return lines(
        ("Prior authorization request\n\n", "Dear reviewer", ":\n\n"),
        ("We request approval of the following: ", service, ". "),
        ("Our patient is ", who, ", "),
        ("under treatment for ", diagnoses or "the condition described here", ". "),
        ("Codes: ", codes, ". "),
        ("The current treatment is ", drugs, ". "),
        ("Medical necessity: ", reason, "."),
        ("\n\n", "We ask for a timely decision and will gladly send further records", "."),
    )


def patient_message(record: Record, rng: random.Random) -> str:
    """Word a message to the patient, in the language of the record."""
    topic, follow_up, age = text(record, "topic"), text(record, "follow_up"), text(record, "age")
    style = rng.randrange(2)
    if record.get("language") == "es":
        opening = ("Le escribimos acerca de ", "Este mensaje trata de ")[style]
        closing = (
            "Si tiene alguna pregunta, comuníquese con la clínica",
            "Estamos a su disposición si tiene preguntas",
        )[style]
        return lines(
            ("Hola:\n\n", opening + topic if topic else "Le escribimos de parte de su clínica", "."),
            (" Según nuestro registro, su edad es de ", age, " años."),
            listed(record, "diagnoses", " Su diagnóstico es: ", " Sus diagnósticos son: "),
            listed(record, "medications", " Su medicamento actual es: ", " Sus medicamentos actuales son: "),
            ("\n\nPróximo paso: ", follow_up, "."),
            ("\n\n", closing, "."),
        )
    opening = ("We are writing about ", "This message is about ")[style]
    closing = ("Please call the clinic if you have any questions", "We are here to help if you have questions")[style]
    return lines(
        ("Hello,\n\n", opening + topic if topic else "We are writing from your clinic", "."),
        (" Our records show that you are ", age, " years old."),
        listed(record, "diagnoses", " Your diagnosis is: ", " Your diagnoses are: "),
        listed(record, "medications", " Your current medication is: ", " Your current medications are: "),
        ("\n\nNext step: ", follow_up, "."),
        ("\n\n", closing, "."),
    )


def appointment_reminder(record: Record, rng: random.Random) -> str:
    """Word an appointment reminder, in the language of the record."""
    department, preparation = text(record, "department"), text(record, "preparation")
    date, time = text(record, "date"), text(record, "time")
    style = rng.randrange(2)
    if record.get("language") == "es":
        opening = ("Le recordamos que tiene una cita", "Este es un recordatorio de su cita")[style]
        place = f" en {department}" if department else ""
        closing = ("Si no puede asistir, avísenos con anticipación", "Llame a la clínica si necesita cambiar la cita")[
            style
        ]
        return lines(
            ("Hola:\n\n", opening + place, "."),
            (" Fecha: ", date, "."),
            (" Hora: ", time, "."),
            ("\n\nPreparación: ", preparation, "."),
            ("\n\n", closing, "."),
        )
    opening = ("This is a reminder that you have an appointment", "We look forward to seeing you at your appointment")[
        style
    ]
    place = f" in {department}" if department else ""
    closing = (
        "If you cannot attend, please let us know in advance",
        "Please call the clinic if you need to reschedule",
    )[style]
    return lines(
        ("Hello,\n\n", opening + place, "."),
        (" Date: ", date, "."),
        (" Time: ", time, "."),
        ("\n\nPreparation: ", preparation, "."),
        ("\n\n", closing, "."),
    )


def visit_summary(record: Record, rng: random.Random) -> str:
    """Word a visit summary."""
    who, reason, follow_up = patient(record), text(record, "visit_reason"), text(record, "follow_up")
    diagnoses, codes = joined(record, "diagnoses"), joined(record, "codes", ", ")
    if rng.randrange(2):
        seen = f"This {who} was seen for {reason}" if reason else f"This {who} was seen today"
        return lines(
            ("Visit summary\n\n", seen, "."),
            (" The following was addressed: ", diagnoses, "."),
            (" The visit is coded as ", codes, "."),
            listed(
                record, "medications", "\n\nThe medication after the visit is ", "\n\nMedications after the visit are "
            ),
            ("\n\nFollow-up: ", follow_up, "."),
        )
    return lines(
        ("Visit summary\n\nPatient: ", who, "\n"),
        ("Reason for visit: ", reason, "\n"),
        ("\nDiagnoses:\n", bullets(record, "diagnoses"), "\n"),
        ("Codes: ", codes, "\n"),
        ("\nMedications:\n", bullets(record, "medications"), "\n"),
        ("\nFollow-up: ", follow_up, "."),
    ).rstrip()


def urgency(record: Record, level: str, reason: str) -> str:
    """Word the classification: the level alone on the first line, then one sentence."""
    who = patient(record)
    start = f"{article(record).capitalize()} {who}" if "age" in record or who != "patient" else "The patient"
    complaint = text(record, "complaint")
    told = f"reports the following: {complaint}; {reason}" if complaint else f"gives no complaint; {reason}"
    return f"{level}\n{start} {told}, {IMMEDIATE[level]}."


WORDINGS: Final[dict[str, Callable[[Record, random.Random], str]]] = {
    "progress_note": progress_note,
    "prior_auth_letter": prior_auth_letter,
    "patient_message": patient_message,
    "appointment_reminder": appointment_reminder,
    "visit_summary": visit_summary,
}
