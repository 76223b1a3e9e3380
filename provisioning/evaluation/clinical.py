"""Seeded generator of synthetic clinical cases: the record a client sends and the answer a good model gives.

What this file decides: the form of a request (``TASKS``, ``messages``), how a record is drawn, and which records
may be trained on. What the words are is in ``vocabulary`` and ``urgency``, how an answer reads in ``wording``.

- The same seed and index give the same case on every machine.
- A record whose digest starts with a small byte is held out: training never sees it, whatever the seed.
- No real patient, no copied text.
"""

import enum
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from provisioning.evaluation import urgency, vocabulary, wording
from provisioning.evaluation.wording import Record

T = TypeVar("T")

LANGUAGES: Final = ("en", "es")
HELD_OUT_BYTES: Final = 16  # of 256: one record in sixteen is never trained on


@dataclass(frozen=True)
class TaskForm:
    """The fields a task's record may hold, in order, and the instruction sent with it."""

    fields: tuple[str, ...]
    instruction: str


TASKS: Final[dict[str, TaskForm]] = {
    "progress_note": TaskForm(
        ("age", "sex", "visit_reason", "diagnoses", "codes", "medications", "lab_values", "plan"),
        "Write a progress note from this record.",
    ),
    "prior_auth_letter": TaskForm(
        ("age", "sex", "diagnoses", "codes", "requested_service", "medications", "justification"),
        "Write a prior authorization letter from this record.",
    ),
    "patient_message": TaskForm(
        ("language", "age", "diagnoses", "medications", "topic", "follow_up"),
        "Write a message to the patient from this record in the given language.",
    ),
    "appointment_reminder": TaskForm(
        ("language", "department", "date", "time", "preparation"),
        "Write an appointment reminder from this record in the given language.",
    ),
    "visit_summary": TaskForm(
        ("age", "sex", "visit_reason", "diagnoses", "codes", "medications", "follow_up"),
        "Write a visit summary from this record.",
    ),
    "urgency_classification": TaskForm(
        ("age", "sex", "complaint", "vital_signs"),
        "Classify the urgency of this message: emergency, urgent or routine.",
    ),
}


class Words(enum.StrEnum):
    """Where the names and codes of a case come from."""

    KNOWN = "known"
    MIXED = "mixed"  # some known, some made up
    MADE_UP = "made_up"
    UNSEEN = "unseen"  # real, and in no training case


@dataclass(frozen=True)
class Case:
    """One record and the answer that the model should learn to give."""

    task: str
    record: Record
    answer: str

    @property
    def held_out(self) -> bool:
        """Say whether training must not see this record."""
        return hashlib.sha256(self.user.encode()).digest()[0] < HELD_OUT_BYTES

    @property
    def user(self) -> str:
        """Write the record as the LAN API sends it."""
        return json.dumps(dict(self.record), ensure_ascii=False)


def messages(task: str, record: Record) -> list[dict[str, str]]:
    """Write the request for one record: the instruction, then the record in the task's order."""
    form = TASKS[task]
    ordered = {field: record[field] for field in form.fields if field in record}
    return [
        {"role": "system", "content": form.instruction},
        {"role": "user", "content": json.dumps(ordered, ensure_ascii=False)},
    ]


def training_cases(seed: int, *, longest_list: int = 5, start: int = 0) -> Iterator[Case]:
    """Give cases without end, of every task, none of them held out or made of unseen names."""
    index = start
    while True:
        rng = random.Random(f"train:{seed}:{index}")
        index += 1
        words = rng.choices((Words.KNOWN, Words.MIXED, Words.MADE_UP), (40, 35, 25))[0]
        task = rng.choices(tuple(TASKS), (25, 20, 18, 9, 18, 10))[0]
        made = draw(task, rng, words=words, longest_list=longest_list)
        if not made.held_out:
            yield made


def measuring_cases(seed: int, count: int, words: Words) -> list[Case]:
    """Give held-out cases, the tasks in turn, each record only once."""
    found: dict[str, Case] = {}
    index, tasks = 0, tuple(TASKS)
    while len(found) < count:
        rng = random.Random(f"measure:{words}:{seed}:{index}")
        index += 1
        made = draw(tasks[len(found) % len(tasks)], rng, words=words, longest_list=4)
        if made.held_out:
            found.setdefault(made.task + made.user, made)
    return list(found.values())


def draw(task: str, rng: random.Random, *, words: Words, longest_list: int) -> Case:
    """Draw one case: a record of the task, some of its fields dropped, and its answer."""
    told = urgency.message(rng)
    record = Writer(rng, words, longest_list).record(task, told)
    full = {field: record[field] for field in TASKS[task].fields}
    if rng.random() < 0.3:
        for field in rng.sample(TASKS[task].fields, rng.randint(1, 2)):
            if field != "language":
                del full[field]
    kept = MappingProxyType(full)
    if task == "urgency_classification":
        level, reason = _urgency(kept, told)
        return Case(task, kept, wording.urgency(kept, level, reason))
    return Case(task, kept, wording.WORDINGS[task](kept, rng))


def _urgency(kept: Record, told: urgency.Message) -> tuple[str, str]:
    """Judge by what the record still says; what was dropped must not be used."""
    vitals_decide = told.reason == urgency.DANGEROUS
    if "complaint" not in kept:
        return (
            ("emergency", urgency.DANGEROUS)
            if vitals_decide and "vital_signs" in kept
            else ("routine", "more information is needed")
        )
    if "vital_signs" not in kept:
        return told.level_without_vitals, told.reason_without_vitals
    return told.level, told.reason


UNSEEN_CODES: Final = frozenset(vocabulary.UNSEEN_CONDITIONS.values()) | frozenset(vocabulary.UNSEEN_SERVICES.values())
SYLLABLES: Final = (
    "ba", "be", "bi", "bo", "ca", "ce", "ci", "co", "da", "de", "di", "do", "fa", "fe", "fi", "fo", "ga", "ge",
    "la", "le", "li", "lo", "lu", "ma", "me", "mi", "mo", "mu", "na", "ne", "ni", "no", "nu", "pa", "pe", "pi",
    "po", "pra", "pro", "ra", "re", "ri", "ro", "sa", "se", "si", "so", "su", "ta", "te", "ti", "to", "tra", "tri",
    "va", "ve", "vi", "vo", "xa", "xi", "ya", "za", "ze", "zi", "zo", "flu", "glo", "cly", "sta", "thi", "tho",
    "phe", "an", "en", "in", "on", "ar", "er", "or", "al", "el", "ol",
)  # fmt: skip
ENDINGS: Final = (
    "mab", "pril", "sartan", "olol", "statin", "azole", "cillin", "mycin", "pine", "zepam", "triptan", "gliptin",
    "itis", "osis", "emia", "oma", "pathy", "algia", "ine", "ide", "one", "ate",
)  # fmt: skip
QUALIFIERS: Final = (
    "",
    "",
    "",
    "",
    "",
    ", controlled",
    ", chronic",
    ", improving",
    " of the left side",
    " in remission",
    ", unspecified",
    " (stable)",
)
GENERAL: Final = tuple(
    sorted(
        {
            word
            for phrase in (
                *vocabulary.VISIT_REASONS,
                *vocabulary.PLANS,
                *vocabulary.JUSTIFICATIONS,
                *vocabulary.CONDITIONS,
            )
            for word in phrase.split()
        }
    )
)
GENERAL_ES: Final = tuple(
    sorted(
        {
            word
            for phrase in (*vocabulary.FOLLOW_UPS_ES, *vocabulary.TOPICS_ES, *vocabulary.PREPARATIONS_ES)
            for word in phrase.split()
        }
    )
)
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
MONTHS_ES: Final = (
    "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
    "diciembre",
)  # fmt: skip


class Writer:
    """Draws the values of one record."""

    def __init__(self, rng: random.Random, words: Words, longest_list: int) -> None:
        """Fix where names come from and how long lists may be."""
        self.rng = rng
        self.words = words
        self.longest_list = longest_list
        self.case = rng.choices((str, str.capitalize, str.title), (70, 25, 5))[0] if words is not Words.UNSEEN else str

    def record(self, task: str, told: urgency.Message) -> dict[str, object]:
        """Draw every field that any task may ask for; ``draw`` keeps those of its task."""
        rng = self.rng
        language = rng.choice(LANGUAGES) if task in {"patient_message", "appointment_reminder"} else "en"
        diagnoses, codes = self.conditions()
        service, cpt = self.service()
        if task == "prior_auth_letter" and rng.random() < 0.8:
            codes = [*codes, cpt]
        spanish = language == "es" and rng.random() < 0.85
        return {
            "language": language, "sex": rng.choice(("female", "male")),
            "age": rng.randint(18, 99) if rng.random() < 0.9 else rng.randint(2, 17),
            "visit_reason": self.phrase(vocabulary.VISIT_REASONS), "diagnoses": diagnoses, "codes": codes,
            "medications": self.medications(), "lab_values": self.labs(), "plan": self.plan(),
            "requested_service": service, "justification": self.phrase(vocabulary.JUSTIFICATIONS),
            "topic": self.phrase(vocabulary.TOPICS_ES if spanish else vocabulary.TOPICS, spanish=spanish),
            "follow_up": self.phrase(vocabulary.FOLLOW_UPS_ES if spanish else vocabulary.FOLLOW_UPS, spanish=spanish),
            "department": self.phrase(vocabulary.DEPARTMENTS_ES if spanish else vocabulary.DEPARTMENTS, spanish=spanish, longest=2),
            "date": self.date(spanish=spanish), "time": self.time(),
            "preparation": self.phrase(vocabulary.PREPARATIONS_ES if spanish else vocabulary.PREPARATIONS, spanish=spanish),
            "complaint": told.complaint, "vital_signs": told.vital_signs,
        }  # fmt: skip

    def invents(self) -> bool:
        """Say whether the next name or code is made up."""
        return self.words is Words.MADE_UP or (self.words is Words.MIXED and self.rng.random() < 0.5)

    def several(self, one: Callable[[], T]) -> list[T]:
        """Draw a list without repeats."""
        drawn: list[T] = []
        for _ in range(self.rng.randint(1, self.longest_list)):
            value = one()
            if value not in drawn:
                drawn.append(value)
        return drawn

    def conditions(self) -> tuple[list[str], list[str]]:
        """Draw diagnoses and their codes; sometimes the codes are fewer, as in real records."""
        pairs = self.several(self.condition)
        names, codes = [name for name, _ in pairs], [code for _, code in pairs]
        if len(codes) > 1 and self.rng.random() < 0.1:
            codes = codes[:-1]
        return list(dict.fromkeys(names)), list(dict.fromkeys(codes))

    def condition(self) -> tuple[str, str]:
        """Draw one diagnosis and its code."""
        if self.invents():
            kind = self.rng.random()
            known = self.rng.choice(tuple(vocabulary.CONDITIONS)) + self.rng.choice(QUALIFIERS)
            name = known if kind < 0.3 else self.invented_phrase(GENERAL, 4) if kind < 0.7 else self.word()
            return self.case(name), self.icd()
        table = vocabulary.UNSEEN_CONDITIONS if self.words is Words.UNSEEN else vocabulary.CONDITIONS
        name, code = self.rng.choice(tuple(table.items()))
        return self.case(name), code

    def service(self) -> tuple[str, str]:
        """Draw a service and its CPT code."""
        if self.invents():
            return self.invented_phrase(GENERAL, 5), self.cpt()
        table = vocabulary.UNSEEN_SERVICES if self.words is Words.UNSEEN else vocabulary.SERVICES
        return self.rng.choice(tuple(table.items()))

    def medications(self) -> list[str]:
        """Draw what a patient takes, each drug once."""
        drawn = {drug.split()[0].lower(): drug for drug in self.several(self.medication)}
        return list(drawn.values())

    def medication(self) -> str:
        """Draw a drug with dose and frequency."""
        if self.invents():
            number = self.rng.choice(
                (str(self.rng.randint(1, 999)), f"{self.rng.randint(0, 99)}.{self.rng.randint(1, 9)}")
            )
            unit = self.rng.choice(("mg", "mg", "mg", "mcg", "units", "mL", "tablets"))
            return f"{self.case(self.word())} {number} {unit} {self.rng.choice(vocabulary.FREQUENCIES)}"
        table = vocabulary.UNSEEN_DRUGS if self.words is Words.UNSEEN else vocabulary.DRUGS
        name, doses = self.rng.choice(tuple(table.items()))
        return f"{self.case(name)} {self.rng.choice(doses)} {self.rng.choice(vocabulary.FREQUENCIES)}"

    def labs(self) -> list[str]:
        """Draw laboratory values, each test once."""
        chosen = self.rng.sample(tuple(vocabulary.LABS.items()), self.rng.randint(1, self.longest_list))
        known = (
            f"{name} {self.rng.uniform(low, high):.{places}f} {unit}" for name, (unit, low, high, places) in chosen
        )
        return [
            f"{self.word()} {self.rng.randint(1, 999)} U/L" if self.invents() else value.rstrip() for value in known
        ]

    def plan(self) -> str:
        """Draw a plan of one to three steps."""
        if self.invents():
            return self.sentence(self.invented_phrase(GENERAL, 8))
        steps = self.rng.sample(vocabulary.PLANS, self.rng.randint(1, 3))
        return self.sentence(self.rng.choice(("; ", ", ", " and ", ". ")).join(steps))

    def phrase(self, known: Sequence[str], *, spanish: bool = False, longest: int = 6) -> str:
        """Draw a known phrase, or make one up from known words."""
        pool = GENERAL_ES if spanish else GENERAL
        return self.sentence(self.invented_phrase(pool, longest) if self.invents() else self.rng.choice(known))

    def sentence(self, written: str) -> str:
        """Write a phrase as people type it: often bare, sometimes with a capital or a full stop."""
        if self.rng.random() < 0.25:
            written = written[0].upper() + written[1:]
        return f"{written}." if self.rng.random() < 0.1 else written

    def invented_phrase(self, pool: Sequence[str], longest: int) -> str:
        """String words together, now and then one that does not exist."""
        chosen = [
            self.word() if self.rng.random() < 0.2 else self.rng.choice(pool)
            for _ in range(self.rng.randint(1, longest))
        ]
        return " ".join(chosen).rstrip(",")

    def word(self) -> str:
        """Make up a word that sounds like a drug or a disease and is not one held back for measuring."""
        while True:
            stem = "".join(self.rng.choices(SYLLABLES, k=self.rng.randint(2, 4)))
            made = stem + (self.rng.choice(ENDINGS) if self.rng.random() < 0.6 else "")
            if made not in vocabulary.UNSEEN_DRUGS and made not in vocabulary.UNSEEN_CONDITIONS:
                return made

    def icd(self) -> str:
        """Make up a code in the form of ICD-10-CM."""
        while True:
            tail = "".join(self.rng.choices("0123456789", k=self.rng.choice((0, 1, 1, 1, 2, 2, 3))))
            tail += self.rng.choice("ADSX") if len(tail) > 1 and self.rng.random() < 0.1 else ""
            code = f"{self.rng.choice('ABCDEFGHIJKLMNOPQRSTVWXYZ')}{self.rng.randint(0, 99):02d}" + (
                f".{tail}" if tail else ""
            )
            if code not in UNSEEN_CODES:
                return code

    def cpt(self) -> str:
        """Make up a code in the form of CPT."""
        while True:
            code = f"{self.rng.randint(10000, 99999)}"
            if code not in UNSEEN_CODES:
                return code

    def date(self, *, spanish: bool) -> str:
        """Draw a date in one of the usual forms."""
        year, month, day = self.rng.randint(2025, 2031), self.rng.randint(1, 12), self.rng.randint(1, 28)
        written = f"{day} de {MONTHS_ES[month - 1]} de {year}" if spanish else f"{MONTHS[month - 1]} {day}, {year}"
        return self.rng.choice((f"{year}-{month:02d}-{day:02d}", written))

    def time(self) -> str:
        """Draw a time of a working day."""
        hour, minute = self.rng.randint(7, 18), self.rng.choice((0, 10, 15, 20, 30, 40, 45, 50))
        noon = 12
        return self.rng.choice(
            (f"{hour:02d}:{minute:02d}", f"{(hour - 1) % noon + 1}:{minute:02d} {'AM' if hour < noon else 'PM'}")
        )
