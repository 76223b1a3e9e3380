"""Every page names its permission, or says why it needs none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, get_resolver, path

from appliance.accounts.permissions import Permission
from console import access


def pages(patterns: Iterable[URLPattern | URLResolver], above: str = "") -> Iterator[tuple[str, object]]:
    for entry in patterns:
        name = f"{above}{entry.pattern}"
        if isinstance(entry, URLResolver):
            yield from pages(entry.url_patterns, name)
        else:
            yield name, entry.callback


def unguarded(patterns: Iterable[URLPattern | URLResolver]) -> list[str]:
    return [
        name
        for name, view in pages(patterns)
        if not isinstance(getattr(view, "permission", None), Permission)
        and getattr(view, "permission", None) != "own"
        and not getattr(view, "public", "")
    ]


def test_every_page_names_its_permission() -> None:
    patterns = get_resolver().url_patterns

    assert len(list(pages(patterns))) > 30
    assert unguarded(patterns) == []


def test_a_page_without_a_permission_is_noticed_and_its_neighbours_are_not() -> None:
    def bare(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    guarded = access.requires(Permission.GPU_VIEW)(lambda _: HttpResponse())
    own = access.signed_in_only(lambda _: HttpResponse())
    public = access.public("anybody may ask whether the box is up")(lambda _: HttpResponse())
    unexplained = access.public("")(lambda _: HttpResponse())

    found = unguarded([path("a", bare), path("b", guarded), path("c", own), path("d", public), path("e", unexplained)])

    assert found == ["a", "e"]
