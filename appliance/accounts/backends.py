"""Who is signed in, for Django's session middleware. Signing in itself is `services`' alone."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import BaseBackend

from appliance.accounts.models import Person


class PersonBackend(BaseBackend):
    """Loads the person of a session. It authenticates nobody: there is one door, and it asks for two factors."""

    def authenticate(self, *args: Any, **kwargs: Any) -> None:
        """Nobody: see `services.check_password` and `services.check_code`."""

    def get_user(self, user_id: int) -> Person | None:
        """The person, or None when gone or inactive: a deactivated person's session ends at the next request."""
        person = Person.objects.filter(pk=user_id, is_active=True).first()
        return person if person is not None and person.is_in_use else None
