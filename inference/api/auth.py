"""From an Authorization header to the rights behind its key. One text and one code for every way to be wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from inference.admission.standing import Standing
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.policy.rules import Rights

_BEARER = re.compile(r"Bearer ([\x21-\x7e]{1,128})")


def authenticate(exchange: Exchange, standing: Standing) -> Rights:
    """The rights of the key, as of now; StaleError before anything is said about a key."""
    facts = standing.current()
    match = _BEARER.fullmatch(exchange.header(b"authorization") or "")
    rights = facts.clients.of_key(match[1], now=datetime.now(UTC)) if match else None
    if rights is None:
        raise BadRequestError("invalid_api_key", "send Authorization: Bearer <an API key of this appliance>")
    return rights
