"""Pure decisions about changes: may this person approve, and what is still missing."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from appliance.changes.errors import ClosedError, FactsError, NotEligibleError
from appliance.changes.kinds import Kind
from provisioning import canonical


@dataclass(frozen=True)
class Tally:
    """Who has agreed so far, and how many are still missing."""

    approved_by: AbstractSet[str]
    needed: int

    @property
    def missing(self) -> int:
        """How many more distinct people it takes."""
        return max(0, self.needed - len(self.approved_by))

    @property
    def passed(self) -> bool:
        """Whether enough people have signed."""
        return self.missing == 0


def check_facts(kind: Kind, facts: Mapping[str, Any]) -> None:
    """Exactly the facts the kind declares, all of them with a canonical form; FactsError otherwise."""
    if set(facts) != kind.required_facts:
        odd = sorted(set(facts) ^ kind.required_facts)
        raise FactsError(f"{kind.label}: these facts are missing or unknown: {', '.join(odd)}.")
    try:
        canonical.dumps(facts)
    except canonical.NotCanonicalError as error:
        raise FactsError(f"{kind.label}: {error}.") from error


def check_can_approve(*, actor: str, proposer: str, state_open: bool, may_approve: bool, tally: Tally) -> None:
    """ClosedError or NotEligibleError when this person's approval would not count."""
    if not state_open or tally.passed:
        raise ClosedError("This change is not open any more.")
    if actor == proposer:
        raise NotEligibleError("You proposed this change, so somebody else must approve it.")
    if actor in tally.approved_by:
        raise NotEligibleError("You have already approved this change.")
    if not may_approve:
        raise NotEligibleError("You may not approve changes.")
