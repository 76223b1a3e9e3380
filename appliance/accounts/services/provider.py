"""People whom the house's identity provider proves: sent there, looked at when they come back, let in like the directory's.

The second factor stays ours, whatever the provider asked for. Why somebody was refused is in the record; they read one text.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings
from django.utils import timezone

from appliance.accounts import oidc, rules
from appliance.accounts.errors import PersonError, ProviderRefusedError, SignInRefusedError
from appliance.accounts.models import Person
from appliance.accounts.services import directory
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from provisioning.site_config import SiteError
from provisioning.site_oidc import Provider

PROVIDER = "system:oidc"


@unaudited("nobody is anybody yet")
def begin() -> tuple[oidc.Asked, str]:
    """A new question and the address a browser takes it to; ProviderRefusedError where the site names no provider."""
    site: Provider | None = settings.SITE.oidc
    if site is None:
        raise ProviderRefusedError("none")
    asked = oidc.ask()
    return asked, oidc.address(site, asked)


@unaudited("what it changes is recorded by the functions that change it; a refusal is recorded by `_refuse`")
def finish(*, actor: str, asked: oidc.Asked | None, came_back: Mapping[str, str]) -> Person:
    """The person who came back, who has yet to show a factor of ours; ProviderRefusedError otherwise."""
    try:
        return _finish(asked, came_back)
    except ProviderRefusedError as refusal:
        _refuse(actor, refusal.reason)
        raise
    except SignInRefusedError as refusal:
        raise ProviderRefusedError("turned_away") from refusal  # with its own record by then


def _finish(asked: oidc.Asked | None, came_back: Mapping[str, str]) -> Person:
    site: Provider | None = settings.SITE.oidc
    if site is None or asked is None:
        raise ProviderRefusedError("not_asked")
    try:
        secret = settings.SITE.secret("oidc-client").decode().rstrip("\r\n")
    except (SiteError, ValueError) as error:
        raise ProviderRefusedError("secret") from error
    identity = oidc.answer(site, secret=secret, asked=asked, came_back=came_back)
    try:
        rules.check_username(identity.username)
    except PersonError as error:
        raise ProviderRefusedError("username") from error
    person = Person.objects.filter(username=identity.username).first()
    if person is not None and (not person.is_active or rules.locked(until=person.locked_until, now=timezone.now())):
        raise ProviderRefusedError("not_active")
    return directory.let_in(
        actor=PROVIDER,
        known=directory.Known(
            id=identity.id,
            username=identity.username,
            display_name=identity.display_name,
            roles=rules.roles_of_groups(identity.groups, site.roles),
        ),
    )


def _refuse(actor: str, reason: str) -> None:
    audit.refuse(actor=actor, action=Action.PERSON_SIGN_IN_REFUSED, target="oidc", outcome=f"provider_{reason}".lower())
