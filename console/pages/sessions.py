"""Sessions: ending one's own, one by one or all, and somebody else's."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from appliance.accounts.permissions import Permission
from appliance.accounts.services import sessions
from console import access


@access.signed_in_only
@require_POST
@access.takes()
def end_one(request: HttpRequest, key: str) -> HttpResponse:
    """End one of one's own."""
    with access.attempt(request, target=f"session:{key[:12]}") as tried:
        sessions.end_one(actor=access.actor(request), row_key=key)
    if not tried.refused:
        access.say(request, access.WELL, "That session is over. Whoever sits there must sign in again.")
    return redirect("profile")


@access.signed_in_only
@require_POST
@access.takes()
def end_all(request: HttpRequest) -> HttpResponse:
    """End every session of one's own, this one too."""
    me = access.actor(request)
    sessions.end_all(actor=me, username=me)
    request.session.flush()
    request.session[access.ENDED] = "everywhere"
    return redirect("sign-in")


@access.requires(Permission.STAFF_MANAGE)
@require_POST
@access.takes()
def end_theirs(request: HttpRequest, username: str) -> HttpResponse:
    """End every session of somebody."""
    me = access.actor(request)
    ended = sessions.end_all(actor=me, username=username, keep=access.row_key(request) if username == me else "")
    access.say(request, access.WELL, f"{ended} session{'' if ended == 1 else 's'} of {username} ended.")
    return redirect("person-factors", username)
