"""Pure decisions about the sealed account: who may open it, for how long, and who may review what it did.

- It takes two different people who each show both factors again. None of them manages staff.
- It closes itself after an hour. It opens once: the next time only after somebody else has reviewed the last.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance.emergency.errors import EmergencyError, NotEligibleError, OverError

NEEDED = 2
OPEN_FOR = timedelta(minutes=60)
# A request that nobody joins is over, so that it cannot be completed by somebody who happens to pass next week.
ASKED_FOR = timedelta(minutes=30)
MOST_TEXT = 500


@dataclass(frozen=True)
class Tally:
    """Who has agreed to open it, and how many are still missing."""

    agreed: AbstractSet[str]

    @property
    def missing(self) -> int:
        """How many more people it takes."""
        return max(0, NEEDED - len(self.agreed))

    @property
    def passed(self) -> bool:
        """Whether enough people have shown both factors."""
        return self.missing == 0


def check_text(text: str, what: str) -> None:
    """EmergencyError for no words, or too many."""
    if not text.strip() or len(text) > MOST_TEXT:
        raise EmergencyError(f"{what} in 1 to {MOST_TEXT} characters.")


def check_can_agree(
    *, actor: str, may_open: bool, asked: bool, asked_at: datetime, now: datetime, tally: Tally
) -> None:
    """OverError or NotEligibleError when this person's word would not count."""
    if not asked or now >= asked_at + ASKED_FOR:
        raise OverError("Nobody asks for this any more.")
    if actor in tally.agreed:
        raise NotEligibleError("You have agreed already. It takes somebody else.")
    if not may_open:
        raise NotEligibleError("You may not open the sealed account.")


def check_can_review(*, actor: str, may_review: bool, closed: bool, agreed: AbstractSet[str]) -> None:
    """OverError or NotEligibleError unless somebody who did not open it looks at what is over."""
    if not closed:
        raise OverError("It is reviewed once it is closed, and once only.")
    if actor in agreed or not may_review:
        raise NotEligibleError("Somebody who did not open it, with the right to review access, reviews it.")
