"""Status, for anybody on the network: where the model runs, where data travels, who has access. No patient data, no names.

Three sentences from the live configuration (REQUIREMENTS.md S2-2, C5). What is not known is said to be not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from appliance.accounts import selectors as accounts
from appliance.accounts.permissions import Permission
from console import access
from inference.clients import selectors as clients
from inference.queue import rules
from inference.releases import selectors as releases


@dataclass(frozen=True)
class Answer:
    """One question in the reader's words, and what is true now."""

    question: str
    sentence: str
    detail: str


@access.public("hospital staff may ask where their patients' data goes without an account")
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The three answers."""
    return render(request, "console/status/page.html", {"answers": answers(), "as_of": timezone.now()})


def answers() -> tuple[Answer, ...]:
    """The three sentences from what is configured and recorded now."""
    site = settings.SITE
    serving = releases.serving()
    if serving is None:
        model = "No model is serving now, so nothing is answered."
    elif serving.degraded_since:
        model = f"The model {serving.name} version {serving.version} is set to serve and does not answer now."
    else:
        model = (
            f"The model {serving.name} version {serving.version} has served since "
            f"{timezone.localtime(serving.since):%Y-%m-%d %H:%M}, approved by change {serving.change_id}."
        )
    askers = [client for client in clients.clients() if client.active and any(key.usable for key in client.keys)]
    apps, with_phi = len(askers), sum(1 for client in askers if client.phi)
    people = sum(1 for person in accounts.people() if person.is_active and person.has_code)
    readers = len(accounts.holders(Permission.AUDIT_VIEW))
    return (
        Answer("Where does the model run?", f"On this machine: serial {site.serial}, {site.room}, {site.name}.", model),
        Answer(
            "Where does data travel?",
            "From the clinical app to this machine and back, on the hospital's own network.",
            "This edition holds no connection to an outside provider. Prompts and answers are not kept: "
            "the log holds keyed fingerprints and counts. Queued work and its answer are kept encrypted, at most "
            f"{rules.RESULT_LIFE // timedelta(hours=1)} hours after it is done; a file of many requests at most "
            f"{rules.FILE_LIFE // timedelta(hours=1)} hours. {_told(len(site.webhooks))}",
        ),
        Answer(
            "Who has access?",
            f"{_count(apps, 'clinical app', 'clinical apps')} may ask, each for its registered tasks only, "
            f"{_of_them(with_phi)} with patient data; "
            f"{_count(people, 'member of staff', 'members of staff')} may sign in to manage the machine.",
            "No page shows what an app asked or was answered. "
            f"{_count(readers, 'person', 'people')} may read the log; each reading is recorded.",
        ),
    )


def _told(places: int) -> str:
    """Where this machine speaks first: to apps that asked to be told, and never of a patient."""
    if not places:
        return "This machine calls no other machine."
    where = _count(places, "address", "addresses")
    return f"It may tell apps at {where} of the hospital's network that their work has ended, and never what it was."


def _of_them(number: int) -> str:
    return f"{number} of them" if number else "none of them"


def _count(number: int, one: str, many: str) -> str:
    return f"{number or 'No'} {one if number == 1 else many}"
