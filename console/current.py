"""What stands now, read once for a request: the bar, the menu and the page print the same answer, for one query each."""

from __future__ import annotations

from functools import cached_property

from django.http import HttpRequest

from appliance.accounts.permissions import Permission
from appliance.alerts import selectors as alerts
from appliance.alerts.rules import Alert
from appliance.changes import selectors as changes
from console import access
from inference.releases import selectors as releases


class Current:
    """Read when first asked for: a page that refuses, while the database is away, asks for none of it."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def serving(self) -> releases.Serving | None:
        """What answers now."""
        return releases.serving()

    @cached_property
    def alerts(self) -> tuple[Alert, ...]:
        """The faults that stand, the most urgent first."""
        return alerts.standing()

    @cached_property
    def imports(self) -> tuple[releases.ImportView, ...]:
        """The imports that may still change."""
        return releases.live_imports()

    @cached_property
    def my_changes(self) -> tuple[changes.Waiting, ...]:
        """The changes that wait for this person's signature."""
        mine = access.may(self._request, Permission.CHANGE_APPROVE)
        return changes.waiting_for(access.actor(self._request)) if mine else ()


def of(request: HttpRequest) -> Current:
    """The one of this request."""
    found = getattr(request, "current", None)
    if found is None:
        found = request.current = Current(request)  # type: ignore[attr-defined]  # kept with the request it is of
    return found
