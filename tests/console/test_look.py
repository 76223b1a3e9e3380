"""The stylesheet's colours, measured: AA contrast in light and in dark, for each pair that carries text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import console

CSS = (Path(console.__file__).parent / "static" / "console" / "console.css").read_text(encoding="utf-8")
TOKENS = {
    name: (light, dark)
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", CSS)
}
TOKENS["on-accent"] = ("#ffffff", "#ffffff")
TEXT_ON = [
    *[(text, ground) for text in ("text", "muted", "accent") for ground in ("page", "surface", "sunken", "side")],
    *[
        (state, ground)
        for state in ("well", "degraded", "failed", "unknown")
        for ground in ("page", "surface", "sunken")
    ],
    *[(state, f"{state}-wash") for state in ("well", "degraded", "failed", "unknown")],
    *[("text", f"{state}-wash") for state in ("well", "degraded", "failed", "unknown", "accent")],
    *[("muted", f"{state}-wash") for state in ("well", "degraded", "failed", "unknown")],
    ("on-accent", "accent-fill"),
    ("on-accent", "accent-fill-hover"),
]
EDGES = [("line-strong", "surface"), ("line-strong", "page"), ("focus", "page"), ("focus", "surface")]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_contrast_of_four_and_a_half_and_edges_of_three(scheme: int) -> None:
    weak = [
        f"{front} on {ground}: {contrast(TOKENS[front][scheme], TOKENS[ground][scheme]):.2f}"
        for pairs, least in ((TEXT_ON, 4.5), (EDGES, 3.0))
        for front, ground in pairs
        if contrast(TOKENS[front][scheme], TOKENS[ground][scheme]) < least
    ]
    assert weak == []


def test_the_measure_itself_is_right() -> None:
    assert round(contrast("#000000", "#ffffff"), 1) == 21.0
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48


def test_motion_is_only_for_those_who_did_not_ask_for_less() -> None:
    calm, _, _ = CSS.partition("@media (prefers-reduced-motion: no-preference)")
    assert "transition" not in calm
    assert "animation" not in CSS
