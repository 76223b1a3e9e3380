"""The one door to API keys: made here, shown once, kept only as a hash.

A key is `iwk_<8 hex>_<43 base64url>`: the first part names the key in lists and in the log, the second is 256 random
bits. With that much chance in it a plain SHA-256 cannot be searched, so no slow hash is needed on the way in.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field

_FORM = re.compile(r"iwk_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class NewKey:
    """A key at the one moment when its text exists outside the client."""

    prefix: str
    plaintext: str = field(repr=False)

    @property
    def sha256(self) -> str:
        return digest(self.plaintext)


def make() -> NewKey:
    prefix = f"iwk_{secrets.token_hex(4)}"
    return NewKey(prefix=prefix, plaintext=f"{prefix}_{secrets.token_urlsafe(32)}")


def digest(plaintext: str) -> str:
    return hashlib.sha256(plaintext.encode()).hexdigest()


def well_formed(text: str) -> bool:
    """Could this be a key of ours at all? Odd spellings never reach the lookup."""
    return _FORM.fullmatch(text) is not None
