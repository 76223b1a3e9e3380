"""A generator's seed as a page shows it, once: in groups to be typed, and as a drawing that a telephone reads."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import quote

import segno
from django.conf import settings
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.debug import sensitive_variables


@dataclass(frozen=True, repr=False)
class ShownSeed:
    """`text`: base32 in groups of four. `picture`: the same as an otpauth address, as SVG."""

    text: str
    picture: SafeString


@sensitive_variables("seed", "secret", "uri")
def show(seed: bytes, *, name: str) -> ShownSeed:
    """The seed of whoever is called `name` on this machine (Key URI Format, as authenticators read it)."""
    secret = base64.b32encode(seed).decode("ascii")
    label = quote(f"Isoward {settings.SITE.name}:{name}")
    uri = f"otpauth://totp/{label}?secret={secret}&issuer={quote('Isoward')}"
    return ShownSeed(" ".join(secret[at : at + 4] for at in range(0, len(secret), 4)), _drawn(uri))


def _drawn(uri: str) -> SafeString:
    """Black on white whatever the theme, because some telephones read nothing else."""
    drawn = segno.make(uri, error="m", micro=False).svg_inline(
        omitsize=True,
        border=4,
        dark="#000",
        light="#fff",
        svgclass="qr",
        lineclass=None,
        title="The secret as a picture",
    )
    return mark_safe(drawn)  # noqa: S308 - drawn by segno from squares; no text of anybody's is in it
