"""What an urgency case says and how urgent it is: the complaint decides, and dangerous vital signs raise it.

A toy rule for a demonstration, not triage.
"""

import random
from dataclasses import dataclass
from typing import Final

LEVELS: Final = ("routine", "urgent", "emergency")

# Complaint -> why; the reason is written by the model from the complaint alone.
COMPLAINTS: Final[dict[str, dict[str, str]]] = {
    "emergency": {
        "crushing chest pain spreading to the left arm": "this may be a heart attack",
        "chest pressure with sweating and nausea": "this may be a heart attack",
        "sudden weakness on one side of the body": "this may be a stroke",
        "sudden trouble speaking and a drooping face": "this may be a stroke",
        "severe trouble breathing at rest": "breathing is threatened",
        "lips turning blue and gasping for air": "breathing is threatened",
        "swelling of the tongue after a bee sting": "this may be a severe allergic reaction",
        "throat closing after eating peanuts": "this may be a severe allergic reaction",
        "vomiting large amounts of blood": "there may be major bleeding",
        "heavy bleeding that does not stop with pressure": "there may be major bleeding",
        "a seizure lasting more than 5 minutes": "a long seizure needs treatment at once",
        "the worst headache of my life, sudden onset": "this may be bleeding in the brain",
        "thoughts of ending my life with a plan": "there is an immediate risk of self-harm",
        "unresponsive after taking too many pills": "this may be an overdose",
        "confusion with a stiff neck and high fever": "this may be meningitis",
        "fainted and is hard to wake up": "consciousness is threatened",
        "lost consciousness at work": "consciousness is threatened",
        "chest pain": "this may be a heart attack",
        "chest pain and shortness of breath": "this may be a heart attack",
        "shortness of breath at rest": "breathing is threatened",
        "cannot breathe": "breathing is threatened",
        "slurred speech": "this may be a stroke",
        "facial droop and arm weakness": "this may be a stroke",
        "suicidal thoughts": "there is an immediate risk of self-harm",
        "severe bleeding after a fall": "there may be major bleeding",
        "coughing up blood": "there may be major bleeding",
    },
    "urgent": {
        "fever of 39 C for two days with chills": "an infection should be examined the same day",
        "burning with urination and flank pain": "a kidney infection should be examined the same day",
        "painful swollen calf since yesterday": "a blood clot must be excluded the same day",
        "a deep cut on the hand that may need stitches": "the wound should be closed the same day",
        "vomiting for 24 hours and unable to keep fluids down": "dehydration should be treated the same day",
        "a spreading red rash on the leg with warmth": "a skin infection should be examined the same day",
        "blood sugar above 300 for two days": "high blood sugar should be corrected the same day",
        "new blurred vision in one eye": "an eye problem should be examined the same day",
        "severe ear pain with discharge": "an ear infection should be examined the same day",
        "worsening cough with green sputum and fever": "pneumonia should be excluded the same day",
        "ankle swollen and unable to bear weight": "a fracture should be excluded the same day",
        "asthma symptoms not relieved by the inhaler": "the airways should be examined the same day",
        "palpitations on and off since this morning": "the heart rhythm should be checked the same day",
        "gained 3 kg in two days with swollen legs": "fluid retention should be treated the same day",
        "high fever": "an infection should be examined the same day",
        "fever and cough": "pneumonia should be excluded the same day",
        "painful urination": "a urinary infection should be examined the same day",
        "vomiting and diarrhea": "dehydration should be treated the same day",
        "sore throat with fever": "an infection should be examined the same day",
        "hives after a new medication": "a drug reaction should be examined the same day",
        "severe abdominal pain": "the abdomen should be examined the same day",
        "dizziness when standing up": "low blood pressure should be excluded the same day",
    },
    "routine": {
        "request for a prescription refill": "this can wait for a regular appointment",
        "mild seasonal allergies": "this can wait for a regular appointment",
        "dry skin on the elbows": "this can wait for a regular appointment",
        "question about vaccination dates": "this can be answered during office hours",
        "annual physical examination": "this is preventive care",
        "knee stiffness for several months": "this is a long-standing problem",
        "mild heartburn after spicy meals": "this can wait for a regular appointment",
        "need a form completed for work": "this can be answered during office hours",
        "trouble falling asleep for a few weeks": "this is a long-standing problem",
        "question about laboratory results": "this can be answered during office hours",
        "occasional tension headaches for years": "this is a long-standing problem",
        "a small mole that has not changed": "this can wait for a regular appointment",
        "runny nose and mild cough without fever": "this can wait for a regular appointment",
        "would like advice about losing weight": "this is preventive care",
        "medication refill": "this can wait for a regular appointment",
        "mild headache": "this can wait for a regular appointment",
        "mild back pain": "this can wait for a regular appointment",
        "common cold symptoms": "this can wait for a regular appointment",
        "mild sore throat": "this can wait for a regular appointment",
        "skin check": "this is preventive care",
        "blood pressure check": "this is preventive care",
        "would like to reschedule an appointment": "this can be answered during office hours",
    },
}
OPENINGS: Final = (
    "",
    "",
    "",
    "I have ",
    "I am calling about ",
    "patient with ",
    "since this morning: ",
    "reports ",
    "calling about ",
    "patient says: ",
    "caregiver reports ",
    "now with ",
)
ENDINGS: Final = (
    "",
    "",
    "",
    ".",
    " since yesterday",
    " for two days",
    ", please advise",
    ", first time",
    ", happened before",
    ", asking what to do",
)
DANGEROUS: Final = "the vital signs are dangerous"


@dataclass(frozen=True)
class Message:
    """What someone wrote to the clinic, and the answer the toy rule gives."""

    complaint: str
    vital_signs: str
    level: str
    reason: str
    level_without_vitals: str
    reason_without_vitals: str


def message(rng: random.Random) -> Message:
    """Draw a complaint and vital signs that fit it; now and then the vital signs alone are dangerous."""
    level = rng.choice(LEVELS)
    core, reason = rng.choice(tuple(COMPLAINTS[level].items()))
    complaint = rng.choice(OPENINGS) + core + rng.choice(ENDINGS)
    if rng.random() < 0.3:
        complaint = complaint[0].upper() + complaint[1:]
    dangerous = rng.random() < (0.5 if level == "emergency" else 0.12)
    vitals = _vital_signs(rng, dangerous=dangerous)
    raised = dangerous and level != "emergency"
    return Message(
        complaint=complaint,
        vital_signs=vitals,
        level="emergency" if raised else level,
        reason=DANGEROUS if raised else reason,
        level_without_vitals=level,
        reason_without_vitals=reason,
    )


def _vital_signs(rng: random.Random, *, dangerous: bool) -> str:
    """Write vital signs; dangerous ones have a saturation below 90 % or a heart rate of 140 and more."""
    rate, saturation = rng.randint(58, 109), rng.randint(94, 100)
    if dangerous and rng.random() < 0.5:
        rate = rng.randint(140, 189)
    elif dangerous:
        saturation = rng.randint(78, 89)
    parts = [f"BP {rng.randint(96, 158)}/{rng.randint(56, 96)}", f"HR {rate}", f"SpO2 {saturation} %"]
    if rng.random() < 0.5:
        parts.insert(2, f"RR {rng.randint(12, 20)}")
    if rng.random() < 0.5:
        parts.append(f"Temp {rng.randint(362, 374) / 10} C")
    return ", ".join(parts)
