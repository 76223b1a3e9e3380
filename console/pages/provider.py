"""Sign-in by way of the house's identity provider: sent there, and back to a page that leads on to our own second factor.

- What was asked is kept in a signed cookie of its own: the session's cookie is never sent on the way back from another
  site, and must not be.
- For the same reason the way back ends on a page with a link, not in a redirect: a step taken from a page of ours is
  the first one that carries the session again.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from django.conf import settings
from django.core.signing import BadSignature
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_GET

from appliance.accounts import oidc
from appliance.accounts.errors import ProviderRefusedError
from appliance.accounts.services import provider
from console import access
from console.pages import sign_in

COOKIE = "isoward_asked"
PATH = "/sign-in/provider"
SALT = "isoward.oidc"
GOOD_FOR_S = 5 * 60
_STRANGER = "unknown"


@access.public("the other first step of sign-in")
@require_GET
def go(request: HttpRequest) -> HttpResponse:
    """Ask, and send the browser to the provider."""
    del request
    try:
        asked, address = provider.begin()
    except ProviderRefusedError as refusal:
        raise Http404 from refusal
    response = HttpResponseRedirect(address)
    response.set_signed_cookie(
        COOKIE,
        json.dumps(asdict(asked)),
        salt=SALT,
        max_age=GOOD_FOR_S,
        path=PATH,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )
    return response


@access.public("where the provider sends people back to")
@require_GET
def back(request: HttpRequest) -> HttpResponse:
    """Look at the answer; whoever it proves goes on to the second step, and is nobody until then."""
    if settings.SITE.oidc is None:
        raise Http404
    try:
        person = provider.finish(actor=_STRANGER, asked=_asked(request), came_back=request.GET.dict())
    except ProviderRefusedError as refusal:
        response = render(request, "console/sign_in/provider.html", {"refused": str(refusal)}, status=403)
    else:
        sign_in.pend(request, person.get_username())
        response = render(request, "console/sign_in/provider.html", {"person_name": person.display_name})
    response.delete_cookie(COOKIE, path=PATH, samesite="Lax")
    return response


def _asked(request: HttpRequest) -> oidc.Asked | None:
    """What this browser was sent away with; None when it was not, or too long ago."""
    try:
        return oidc.Asked(**json.loads(request.get_signed_cookie(COOKIE, salt=SALT, max_age=GOOD_FOR_S) or ""))
    except (KeyError, BadSignature, ValueError, TypeError):
        return None
