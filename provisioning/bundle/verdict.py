"""The answer of an import, able to explain itself line by line.

`ok` means: nothing stands in the way of proposing this release. A bundle that is whole and signed but needs a person's
eye comes back with `ok` false and the code of the hold (for example `needs_template_review`); a refusal is never
returned, it is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HOLDS = ("needs_template_review", "needs_weight_review")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was found."""

    name: str
    ok: bool
    detail: str

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "detail": self.detail}


@dataclass(frozen=True)
class Verdict:
    """All checks in order, and what they add up to."""

    ok: bool
    code: str
    message: str
    checks: tuple[Check, ...] = field(default=())

    @property
    def held(self) -> bool:
        """True when the bundle is genuine but a named role has to look at it first."""
        return self.code in HOLDS

    def to_dict(self) -> dict[str, Any]:
        checks = [check.to_dict() for check in self.checks]
        return {"ok": self.ok, "code": self.code, "message": self.message, "checks": checks}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Verdict:
        checks = tuple(Check(name=c["name"], ok=c["ok"], detail=c["detail"]) for c in value["checks"])
        return cls(ok=value["ok"], code=value["code"], message=value["message"], checks=checks)
