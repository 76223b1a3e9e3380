"""Step-up: the second factor again, because the last one is more than five minutes old and the act is a sensitive one.

It leads back to the page the person came from. What they had posted is not posted again: they press once more.
"""

from __future__ import annotations

import time

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from appliance.accounts import services as people
from appliance.accounts.errors import SignInRefusedError
from appliance.accounts.services import passkeys
from appliance.audit import services as audit
from appliance.audit.actions import Action
from console import access, second_factor


@sensitive_post_parameters("code", "answer")
@access.signed_in_only
@require_http_methods(["GET", "POST"])
@access.takes(second_factor.CodeForm, second_factor.KeyForm, "next", "again")
def page(request: HttpRequest) -> HttpResponse:
    """Ask, and go back."""
    wanted = access.local_path(request.POST.get("next", "") or request.GET.get("next", ""))
    again = "1" in {request.POST.get("again"), request.GET.get("again")}
    me = access.actor(request)
    prompt = second_factor.Prompt(request, name=me, purpose=passkeys.STEP_UP)
    try:
        device = prompt.device()
    except SignInRefusedError:
        audit.refuse(
            actor=me,
            action=Action.PERSON_STEP_UP_REFUSED,
            target="step-up",
            outcome="key_refused" if prompt.by_key else "code_refused",
            detail={"source": access.source(request), "request_id": access.request_id(request)},
        )
        device = None
    if device is not None:
        # A new id for a session that may do more from here on.
        request.session.cycle_key()
        request.session[access.FACTOR_AT] = time.time()
        people.stepped_up(actor=me, factor=device.kind)
        if again:
            access.say(
                request, access.DEGRADED, "Your second factor counts. Nothing was changed yet: repeat the step now."
            )
        return redirect(wanted)
    context = {**prompt.context(), "next": wanted, "again": again, "minutes": access.STEP_UP_S // 60}
    return render(request, "console/step_up/page.html", context, status=prompt.status)
