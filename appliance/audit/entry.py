"""One audit record as a value, before it has a place in the log.

Decides which fields a record has (REQUIREMENTS.md S4-1) and what each may hold. Patient text has no field: prompts and
answers appear only as keyed HMACs with the key's id, a patient only as a keyed tag.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import NamedTuple

from appliance.audit.errors import EntryError

KINDS = frozenset({"intent", "outcome", "act", "refusal", "read"})
_LONGEST = 16_384


class Position(NamedTuple):
    """Where a record stands: the writer's shard, and its gapless number there (from 1)."""

    shard: int
    seq: int


def now_us() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Entry:
    """What happened. The order of the fields is the order of the columns and of the hashed bytes."""

    at_us: int
    kind: str
    action: str
    actor: str
    outcome: str
    target: str = ""
    request_id: str = ""
    client: str = ""
    key_id: str = ""
    end_user: str = ""
    purpose: str = ""
    task: str = ""
    data_class: str = ""
    model: str = ""
    release: str = ""
    change_id: int = 0
    prompt_hmac: str = ""
    answer_hmac: str = ""
    patient_tag: str = ""
    hmac_key: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    detail: str = "{}"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise EntryError(f"kind {self.kind!r} is unknown")
        if min(_numbers(self)) < 0:
            raise EntryError("a number of a record is negative")
        texts = "".join(_texts(self))
        if "\x00" in texts or (len(texts) > _LONGEST and max(map(len, _texts(self))) > _LONGEST):
            raise EntryError(f"a text of a record holds a NUL or more than {_LONGEST} characters")


FIELDS = tuple(f.name for f in fields(Entry))
NUMBER_FIELDS = tuple(f.name for f in fields(Entry) if f.type == "int")
TEXT_FIELDS = tuple(f.name for f in fields(Entry) if f.type == "str")
_numbers, _texts = attrgetter(*NUMBER_FIELDS), attrgetter(*TEXT_FIELDS)
