"""What a finished draft is held against before it may be called one. Pure.

- A code is invented when it has the form of ICD-10, CPT or HCPCS and stands nowhere in what the model was given: such a
  draft is refused (S3-4). One that was given and is not in the draft is named in the receipt: the reader must know.
- A draft with a schema is JSON of that form, whole.
- A draft that was cut at its length may end in the beginning of a code that was given; that is not an invention.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inference.policy import schema
from inference.policy.ask import Prompt
from inference.policy.catalog import Check, Task
from inference.policy.errors import DraftRefusedError

_ICD_10 = r"[A-Z]\d[0-9AB](?:\.[0-9A-Z]{1,4})?"
_CPT = r"\d{5}|\d{4}[FTU]|[A-V]\d{4}"
_CODE = re.compile(rf"(?<![\w.])(?:{_CPT}|{_ICD_10})(?![\w]|\.\d)")
_NO_CODES = frozenset({"B12"})
"""Written in notes all day, and no category of ICD-10-CM."""


@dataclass(frozen=True)
class Checked:
    """What the checks found in a draft that passed."""

    names: tuple[str, ...] = ()
    missing_codes: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"passed": list(self.names), "missing_codes": self.missing_codes}


def judge(task: Task, prompt: Prompt, text: str, *, cut: bool) -> Checked:
    """The draft's marks, or DraftRefusedError. `cut`: it ended at its length and not by itself."""
    missing = 0
    if Check.SCHEMA in task.checks and task.schema is not None:
        _check_schema(text, task.schema)
    if Check.CODES in task.checks:
        missing = _check_codes(prompt.kept or {}, text, cut=cut)
    return Checked(tuple(sorted(task.checks)), missing)


def _check_schema(text: str, wanted: Mapping[str, Any]) -> None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise DraftRefusedError("the draft is not the JSON this task answers with") from None
    if not schema.fits(value, wanted):
        raise DraftRefusedError("the draft is not of the form this task answers with")


def _check_codes(record: Mapping[str, Any], text: str, *, cut: bool) -> int:
    """How many given codes the draft does not hold."""
    given = set(_CODE.findall("\n".join(_texts(record))))
    listed = record.get("codes")
    named = {code for code in listed if isinstance(code, str)} if isinstance(listed, list) else set()
    given |= named
    found = set()
    for match in _CODE.finditer(text):
        at_the_cut = cut and match.end() == len(text) and any(code.startswith(match[0]) for code in given)
        if match[0] not in given | _NO_CODES and not at_the_cut:
            raise DraftRefusedError("the draft holds a code that the record does not")
        found.add(match[0])
    return len(named - found)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a record, its names too, and its numbers as text: 99213 may be given as a number."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    else:
        yield str(value)
