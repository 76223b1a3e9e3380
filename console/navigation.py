"""The left column: label, page, permission, and what waits there. Lists only what this person may open.

The permission of an item is the permission of its page, read from the view itself, so a hidden link and a refused page
cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import resolve, reverse

from appliance.accounts.permissions import Permission
from console import access, current


@dataclass(frozen=True)
class Link:
    """One entry of the menu as written here."""

    label: str
    page: str
    count: Callable[[HttpRequest], int] | None = None
    count_says: str = ""


@dataclass(frozen=True)
class Item:
    """One entry as printed."""

    label: str
    page: str
    current: bool
    count: int
    count_says: str


@dataclass(frozen=True)
class Group:
    """A named run of entries; a group with nothing in it is not printed."""

    label: str
    items: tuple[Item, ...]


def _my_changes(request: HttpRequest) -> int:
    return len(current.of(request).my_changes)


def _open_alerts(request: HttpRequest) -> int:
    return sum(1 for alert in current.of(request).alerts if not alert.acknowledged_by)


def _live_imports(request: HttpRequest) -> int:
    return len(current.of(request).imports)


MENU: tuple[tuple[str, tuple[Link, ...]], ...] = (
    ("Service", (Link("Overview", "overview"), Link("Playground", "playground"), Link("Queue", "queue"))),
    (
        "Models",
        (
            Link("Media", "media", _live_imports, "running"),
            Link("Releases", "releases"),
            Link("Changes", "changes", _my_changes, "waiting for you"),
            Link("Tasks and routes", "tasks"),
        ),
    ),
    (
        "Access",
        (
            Link("Clients", "clients"),
            Link("Staff", "staff"),
            Link("Access review", "reviews"),
            Link("Break-glass", "emergency"),
        ),
    ),
    ("Assurance", (Link("Audit", "audit"),)),
    ("Box", (Link("GPUs", "gpus"), Link("Alerts", "alerts", _open_alerts, "not taken on"))),
)


def groups(request: HttpRequest) -> tuple[Group, ...]:
    """The column for this person; empty before both factors."""
    if not access.is_signed_in(request):
        return ()
    shown = []
    for label, links in MENU:
        items = tuple(_item(request, link) for link in links if _may_open(request, link))
        if items:
            shown.append(Group(label, items))
    return tuple(shown)


def _may_open(request: HttpRequest, link: Link) -> bool:
    permission = getattr(resolve(reverse(link.page)).func, "permission", None)
    return isinstance(permission, Permission) and access.may(request, permission)


def _item(request: HttpRequest, link: Link) -> Item:
    home = reverse(link.page)
    here = request.path == home or (home != "/" and request.path.startswith(home + "/"))
    count = link.count(request) if link.count else 0
    return Item(link.label, link.page, here, count, link.count_says)
