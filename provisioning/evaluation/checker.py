"""Decides what an answer owes its record: which facts are in it, and which codes nobody gave. Pure.

- The age counts only where it is said to be an age: "58-year-old", "58 years", "58 años".
- A diagnosis or medication counts when it stands verbatim, as often as the entries of the record need it: "asthma"
  inside "moderate persistent asthma" does not stand for both.
- A code counts as a whole: "E11" is not found in "E11.9".
- A code is invented when it has the form of ICD-10, CPT or HCPCS and stands nowhere in the record.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ICD_10: Final = r"[A-Z]\d[0-9A-Z](?:\.[0-9A-Z]{1,4})?"
CPT: Final = r"\d{5}|\d{4}[FTU]|[A-V]\d{4}"
CODE: Final = re.compile(rf"(?<![\w.])(?:{CPT}|{ICD_10})(?![\w]|\.\d)")
LISTS: Final = ("diagnoses", "medications")
CLASSES: Final = ("age", "diagnoses", "medications", "codes")


@dataclass(frozen=True)
class Verdict:
    """What the answer holds of one record."""

    present: Mapping[str, bool]  # only the classes the record has
    missing: tuple[str, ...]
    invented: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Say whether nothing is missing and nothing invented."""
        return not self.missing and not self.invented


def codes_in(text: str) -> tuple[str, ...]:
    """Find everything that has the form of a code."""
    return tuple(CODE.findall(text))


def states_age(answer: str, age: int) -> bool:
    """Say whether the answer gives this age as an age."""
    return (
        re.search(rf"(?<![\d.]){age}(?:[- ]years?\b| años?\b)|\b(?:[Aa]ged?|[Ee]dad):? {age}(?!\d|\.\d)", answer)
        is not None
    )


def check(record: Mapping[str, object], answer: str) -> Verdict:
    """Compare an answer with its record."""
    missing: dict[str, list[str]] = {}
    age = record.get("age")
    if isinstance(age, int):
        missing["age"] = [] if states_age(answer, age) else [str(age)]
    for field in LISTS:
        if field in record:
            missing[field] = _missing(strings(record, field), answer)
    found = codes_in(answer)
    if "codes" in record:
        missing["codes"] = [code for code in strings(record, "codes") if code not in found]
    given = {code for value in record.values() for code in codes_in(_flat(value))} | set(strings(record, "codes"))
    return Verdict(
        present={field: not absent for field, absent in missing.items()},
        missing=tuple(text for absent in missing.values() for text in absent),
        invented=tuple(code for code in found if code not in given),
    )


def strings(record: Mapping[str, object], field: str) -> tuple[str, ...]:
    """Give one list of the record; empty when it is missing."""
    value = record.get(field, ())
    return tuple(str(item) for item in value) if isinstance(value, Sequence) else ()


def _missing(wanted: Sequence[str], answer: str) -> list[str]:
    """List what stands in the answer less often than the record needs it."""
    return [item for item in wanted if answer.count(item) < sum(other.count(item) for other in wanted)]


def _flat(value: object) -> str:
    """Write any value of a record as one text."""
    return "\n".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
