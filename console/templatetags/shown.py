"""How values are shown: times, sizes, digests, states. Decides wording and shape only, never what is true.

- Times are site time, `2026-11-22 14:05`; the full instant with its zone is in the title.
- Sizes are binary units; digests show their first 12 characters and carry the whole.
- A state is a shape and a word; colour only repeats them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

# Drawn rather than typed: ● ▲ ■ ◌ come out in four sizes in four fonts.
_DRAWN: Mapping[str, str] = {
    "well": '<circle cx="5" cy="5" r="4.5"/>',
    "degraded": '<path d="M5 .6 9.8 9.4H.2z"/>',
    "failed": '<rect x=".8" y=".8" width="8.4" height="8.4"/>',
    "unknown": '<circle cx="5" cy="5" r="4" fill="none" stroke="currentColor" stroke-width="1.4" stroke-dasharray="1.7 1.44"/>',
}
SHAPES: Mapping[str, SafeString] = {
    level: mark_safe(f'<svg class="shape" viewBox="0 0 10 10" aria-hidden="true">{drawn}</svg>')  # noqa: S308 - our own text above
    for level, drawn in _DRAWN.items()
}
NOTHING = "–"
_KIB = 1024
_DIGEST_LENGTH = 64


@register.simple_tag
def state(level: str, word: str) -> SafeString:
    """A state as shape and word; a level we do not know is shown as unknown rather than as well."""
    known = level if level in SHAPES else "unknown"
    return format_html('<span class="state state-{}">{}{}</span>', known, SHAPES[known], word)


@register.simple_tag
def shape(level: str) -> SafeString:
    """The shape alone, for a notice whose text says the word."""
    return SHAPES.get(level, SHAPES["unknown"])


@register.simple_tag
def when(at: datetime | None, never: str = "never") -> SafeString | str:
    """Site time to the minute; the seconds and the zone are in the title."""
    if at is None:
        return never
    local = timezone.localtime(at)
    return format_html(
        '<time class="nowrap" datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        local.strftime("%Y-%m-%d %H:%M:%S %Z"),
        local.strftime("%Y-%m-%d %H:%M"),
    )


@register.simple_tag
def exactly(at: datetime) -> str:
    """Site time to the microsecond, for one record among thousands."""
    return timezone.localtime(at).strftime("%Y-%m-%d %H:%M:%S.%f %Z")


@register.simple_tag
def clock(at: datetime | None) -> str:
    """Site time to the second, for live parts that say when they were last true."""
    return timezone.localtime(at).strftime("%H:%M:%S") if at else NOTHING


@register.filter
def span(seconds: float | timedelta | None) -> str:
    """A duration in the two largest units that say enough: `4 min 10 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds is None:
        return NOTHING
    total = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
    if total < 1:
        return "under 1 s"
    whole = round(total)
    for unit, size, lower, lower_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // lower_size
            return f"{whole // size} {unit} {rest} {lower}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


@register.filter
def ago(at: datetime | None) -> str:
    """How long ago, in words; a time ahead of the clock is said to be so, not hidden."""
    if at is None:
        return "never"
    past = timezone.now() - at
    if past < timedelta(seconds=-5):
        return f"{span(-past)} ahead of the clock"
    return f"{span(past)} ago"


@register.filter
def lasting(at: datetime | None) -> str:
    """How long something has gone on since then."""
    return NOTHING if at is None else span(timezone.now() - at)


@register.filter
def size(count: float | None) -> str:
    """Bytes in the unit a person would use."""
    if count is None:
        return NOTHING
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < _KIB:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= _KIB
    return f"{value:.1f} TiB"


@register.filter
def thousands(count: int | None) -> str:
    """A count with a thin space between thousands, so that it cannot be read as a decimal."""
    return NOTHING if count is None else f"{count:,}".replace(",", "\u202f")


@register.simple_tag
def digest(value: str, whole: bool = False) -> SafeString | str:  # noqa: FBT001, FBT002 - a template writes `whole=True`
    """A digest: its first 12 characters with a copy button that carries all of it."""
    if not value:
        return NOTHING
    return format_html(
        '<span class="{}"><code title="{}">{}</code> <button type="button" class="copy" data-copy="{}" hidden>Copy</button></span>',
        "digest-full" if whole else "digest",
        value,
        value if whole else value[:12],
        value,
    )


@register.filter
def shortened(text: str) -> str:
    """A name as it is; a whole digest as its first 12 characters."""
    whole = len(text) == _DIGEST_LENGTH and all(c in "0123456789abcdef" for c in text)
    return text[:12] if whole else text


@register.filter
def inorder(names: Iterable[str]) -> list[str]:
    """A set of names as a list that reads the same each time."""
    return sorted(map(str, names))


@register.filter
def plural(count: int, words: str) -> str:
    """`{{ n|plural:"change,changes" }}` writes `1 change` or `2 changes`."""
    one, _, many = words.partition(",")
    return f"{count} {one if count == 1 else many}"


@register.inclusion_tag("console/_field.html")
def field(bound: Any, **extra: Any) -> dict[str, Any]:
    """One form field with its label, help and errors, joined for a screen reader."""
    attrs = dict(extra)
    marks = [f"{bound.id_for_label}-help"] if bound.help_text else []
    if bound.errors:
        attrs["aria-invalid"] = "true"
        marks.append(f"{bound.id_for_label}-errors")
    if marks:
        attrs["aria-describedby"] = " ".join(marks)
    return {"field": bound, "widget": bound.as_widget(attrs=attrs)}


@register.filter
def usable_keys(client: Any) -> int:
    """How many of a client's keys open the door now."""
    return sum(1 for key in client.keys if key.usable)
