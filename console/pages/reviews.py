"""Access reviews: who can do what, should they still, and who said so.

Decides nothing about people: it puts together what the ledgers know of each, and which apps they answer for. An app is
somebody's when its owner is written as their name, in either of its two forms.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts import selectors as accounts
from appliance.accounts.permissions import Permission, Role
from appliance.reviews import rules
from appliance.reviews import selectors as reviews
from appliance.reviews import services as reviewing
from console import access
from inference.clients import selectors as clients

COLUMNS = ("username", "display_name", "roles", "phi_view", "factors", "clients", "last_sign_in")
DECIDED = ("verdict", "reason", "decided_by", "decided_at")


class DecisionForm(forms.Form):
    """Keep or revoke, and why."""

    verdict = forms.ChoiceField(choices=[(one.value, one.value) for one in rules.Verdict])
    reason = forms.CharField(max_length=rules.MOST_REASON)


@dataclass(frozen=True)
class Row:
    """One person in the table: as they are now while the review is open, as they were decided on once it is signed."""

    username: str
    display_name: str
    roles: tuple[str, ...]
    phi_view: bool
    factors: tuple[str, ...]
    clients: tuple[str, ...]
    last_sign_in: str
    decision: rules.Decision | None
    changed: bool
    is_self: bool


@access.requires(Permission.ACCESS_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Every review, and whether one is due."""
    found = reviews.reviews()
    context = {
        "reviews": found,
        "open": next((one for one in found if one.is_open), None),
        "overdue": reviews.overdue_since(timezone.now()),
        "days": rules.DUE_EVERY.days,
        "may_review": access.may(request, Permission.ACCESS_REVIEW),
    }
    return render(request, "console/reviews/list.html", context)


@access.requires(Permission.ACCESS_REVIEW)
@require_POST
@access.takes()
def begin(request: HttpRequest) -> HttpResponse:
    """Open a review."""
    review_id = 0
    with access.attempt(request, target="access-review"):
        review_id = reviewing.open_(actor=access.actor(request))
    return redirect("review", review_id) if review_id else redirect("reviews")


@access.requires(Permission.ACCESS_VIEW)
@require_GET
def detail(request: HttpRequest, review_id: int) -> HttpResponse:
    """One review: everybody, and what was said of them."""
    review = _found(review_id)
    me = access.actor(request)
    rows = _rows(review, me)
    missing = [row.username for row in rows if not row.is_self and (row.decision is None or row.changed)]
    context = {
        "review": review,
        "rows": rows,
        "missing": missing,
        "may_review": review.is_open and access.may(request, Permission.ACCESS_REVIEW),
    }
    return render(request, "console/reviews/detail.html", context)


@access.requires(Permission.ACCESS_REVIEW)
@require_POST
@access.takes(DecisionForm)
def decide(request: HttpRequest, review_id: int, username: str) -> HttpResponse:
    """Say what becomes of one person's access."""
    form = DecisionForm(request.POST)
    if not form.is_valid():
        access.say(request, access.FAILED, f"Say why, in a few words. Nothing is decided about {username} yet.")
        return redirect("review", review_id)
    with access.attempt(request, target=f"review:{review_id}"):
        reviewing.decide(
            actor=access.actor(request),
            review_id=review_id,
            username=username,
            verdict=rules.Verdict(form.cleaned_data["verdict"]),
            reason=form.cleaned_data["reason"],
            clients=_owned(),
        )
    return redirect("review", review_id)


@access.requires(Permission.ACCESS_REVIEW)
@access.step_up
@require_POST
@access.takes()
def sign(request: HttpRequest, review_id: int) -> HttpResponse:
    """Sign the review off; what was revoked ends with it."""
    with access.attempt(request, target=f"review:{review_id}") as tried:
        revoked = reviewing.sign(actor=access.actor(request), review_id=review_id, clients=_owned())
    if not tried.refused:
        ended = f"The access of {', '.join(revoked)} has ended." if revoked else "Nobody's access was ended."
        access.say(request, access.WELL, f"Review {review_id} is signed. {ended}")
    return redirect("review", review_id)


@access.requires(Permission.ACCESS_VIEW)
@require_GET
def export_json(request: HttpRequest, review_id: int) -> HttpResponse:
    """The review as it is kept: what the digest covers, and the digest."""
    review = _found(review_id)
    reviewing.exported(actor=access.actor(request), review_id=review_id, form="json")
    document: dict[str, Any] = {
        "form": "isoward-access-review-1",
        "review": review.id,
        "state": review.state,
        "opened_by": review.opened_by,
        "opened_at": review.opened_at.isoformat(),
        "signed_by": review.signed_by,
        "signed_at": review.signed_at.isoformat() if review.signed_at else "",
        "decisions": [one.record() for one in review.decisions],
        "digest": review.digest,
    }
    return _file(json.dumps(document, indent=2), "application/json", f"access-review-{review_id}.json")


@access.requires(Permission.ACCESS_VIEW)
@require_GET
def export_csv(request: HttpRequest, review_id: int) -> HttpResponse:
    """The same as a table, for a spreadsheet."""
    review = _found(review_id)
    reviewing.exported(actor=access.actor(request), review_id=review_id, form="csv")
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*COLUMNS, *DECIDED])
    for row in _rows(review, ""):
        said = row.decision.record() if row.decision else {}
        values = [getattr(row, name) for name in COLUMNS] + [said.get(name, "") for name in DECIDED]
        writer.writerow([_cell(value) for value in values])
    return _file(out.getvalue(), "text/csv; charset=utf-8", f"access-review-{review_id}.csv")


def _cell(value: object) -> str:
    """A value as a spreadsheet must read it: as text, never as a formula."""
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return "'" + text if text[:1] in set("=+-@\t\r") else text


def _file(text: str, kind: str, name: str) -> HttpResponse:
    response = HttpResponse(text, content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _found(review_id: int) -> reviews.ReviewRow:
    review = reviews.review(review_id)
    if review is None:
        raise Http404
    return review


def _rows(review: reviews.ReviewRow, me: str) -> list[Row]:
    said = {one.username: one for one in review.decisions}
    if not review.is_open:
        return [_row(one.username, one.facts, one, changed=False, is_self=False) for one in review.decisions]
    people = reviews.access(_owned())
    return [
        _row(
            person.username,
            person.facts(),
            said.get(person.username),
            changed=person.username in said and not said[person.username].fits(person),
            is_self=person.username == me,
        )
        for person in people
    ]


def _row(
    username: str, facts: Mapping[str, Any], decision: rules.Decision | None, *, changed: bool, is_self: bool
) -> Row:
    known = {role.value: role.label for role in Role}
    return Row(
        username=username,
        # A signed review that was altered is shown as what is left of it, with the notice that it was.
        display_name=facts.get("display_name", username),
        roles=tuple(known.get(role, role) for role in facts.get("roles", ())),
        phi_view=facts.get("phi_view", False),
        factors=tuple(facts.get("factors", ())),
        clients=tuple(facts.get("clients", ())),
        last_sign_in=facts.get("last_sign_in", ""),
        decision=decision,
        changed=changed,
        is_self=is_self,
    )


def _owned() -> dict[str, list[str]]:
    """From a person to the apps whose owner is written as their name."""
    names: dict[str, str] = {}
    for person in accounts.people():
        names[person.display_name.casefold()] = person.username
    for person in accounts.people():  # the name for signing in is one person's; a full name may be two people's
        names[person.username] = person.username
    owned: dict[str, list[str]] = {}
    for client in clients.clients():
        username = names.get(client.owner.strip().casefold())
        if username is not None:
            owned.setdefault(username, []).append(client.name)
    return owned
