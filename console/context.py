"""The shell around each page: site, serving state, navigation, person. A context processor; everything in it is lazy.

Lazy because the pages that refuse are drawn with it too, some of them while the database is away: what a template
does not print is not read.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from appliance.accounts import selectors as accounts
from appliance.accounts.permissions import Role
from console import access, current, navigation
from inference.releases import selectors as releases

EDITION = "AIR-GAPPED"
THEME_COOKIE = "isoward_theme"
THEMES = ("light", "dark")


class Shell:
    """What the base templates print."""

    edition = EDITION

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @property
    def site_name(self) -> str:
        """The hospital's name for this site."""
        return str(settings.SITE.name)

    @cached_property
    def now(self) -> datetime:
        """One time for the whole page."""
        return timezone.now()

    @property
    def zone(self) -> str:
        """The site's zone, as its clocks write it."""
        return timezone.localtime(self.now).strftime("%Z")

    @property
    def theme(self) -> str:
        """Light or dark when the person chose one; otherwise the browser decides."""
        chosen = self._request.COOKIES.get(THEME_COOKIE, "")
        return chosen if chosen in THEMES else ""

    @property
    def _serving(self) -> releases.Serving | None:
        return current.of(self._request).serving

    @property
    def serving_level(self) -> str:
        """Well while something answers, failed while nothing does."""
        if self._serving is None:
            return "failed"
        return "degraded" if self._serving.degraded_since else "well"

    @property
    def serving_words(self) -> str:
        """The serving state in about three words."""
        if self._serving is None:
            return "Nothing is serving"
        verb = "Not answering:" if self._serving.degraded_since else "Serving"
        return f"{verb} {self._serving.name} {self._serving.version}"

    @property
    def has_provider(self) -> bool:
        """Whether the site names an identity provider."""
        return settings.SITE.oidc is not None

    @property
    def is_first_boot(self) -> bool:
        """Whether the sign-in page has nobody to let in, and says where to begin."""
        return accounts.is_first_boot()

    @cached_property
    def groups(self) -> tuple[navigation.Group, ...]:
        """The left column, for this person and this page."""
        return navigation.groups(self._request)

    @property
    def person_name(self) -> str:
        """The person's name, only once both factors were shown."""
        return access.display_name(self._request) if access.is_signed_in(self._request) else ""

    @property
    def person_roles(self) -> str:
        """The person's roles in words."""
        return ", ".join(Role(role).label for role in sorted(access.roles(self._request)))


def shell(request: HttpRequest) -> dict[str, Shell]:
    """The context processor named in settings."""
    return {"shell": Shell(request)}
