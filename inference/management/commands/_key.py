"""What the commands that make a key share: how it is printed, once."""

from __future__ import annotations

import json

from inference.clients.services import IssuedKey


def printed(key: IssuedKey, *, as_json: bool) -> str:
    """The key with what it is known by."""
    facts = {"client": key.client, "prefix": key.prefix, "expires": key.expires.isoformat(), "key": key.plaintext}
    return json.dumps(facts) if as_json else "\n".join(f"{name}: {value}" for name, value in facts.items())
