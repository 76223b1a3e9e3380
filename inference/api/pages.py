"""Lists, as OpenAI pages them: newest first, `after` an id, at most `limit` at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inference.api.fields import Fields


@dataclass(frozen=True)
class Asked:
    """Which page."""

    after: str
    limit: int


def asked(fields: Fields, *, most: int, usual: int = 20) -> Asked:
    """The page that a query asks for, as OpenAI bounds it; the first `usual` when it does not say."""
    after = fields.token("after")
    text = fields.token("limit") or str(usual)
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) <= most):
        raise fields.range("limit", f"a whole number from 1 to {most}")
    fields.choice("order", ("desc",))
    return Asked(after, int(text))


def listed(shown: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """A page of anything, in OpenAI's shape."""
    ids = [each["id"] for each in shown]
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"object": "list", "data": shown, **ends, "has_more": more}
