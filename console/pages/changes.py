"""Changes: what will be different, who agreed, who is missing; approve, reject, withdraw.

Approving asks for both factors again, because the signature is made with a key that opens with them. Whether this
person may sign is the ledger's rule, not this page's: the page only offers what the ledger would accept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts import selectors as accounts
from appliance.accounts.permissions import Permission
from appliance.changes import selectors as changes
from appliance.changes import services as changing
from console import access, current, diff, listing, second_factor
from inference.releases import selectors as releases

LEVELS = {"executed": "well", "failed": "failed", "rejected": "failed"}
WORDS = {
    "open": "Waiting for approval",
    "approved": "Being carried out",
    "executed": "Carried out",
    "failed": "Failed",
    "rejected": "Rejected",
    "withdrawn": "Withdrawn",
}
# Once carried out, what became of the deployment says more than that it was ordered.
DEPLOYED = {
    "starting": ("unknown", "Starting"),
    "serving": ("well", "Serving"),
    "draining": ("unknown", "Draining"),
    "retired": ("unknown", "Has served"),
    "failed": ("failed", "Engine did not start"),
}


COLUMNS = (
    listing.Column("Change", "number", falls=True),
    listing.Column("State", "state"),
    listing.Column("About"),
    listing.Column("Approvals"),
    listing.Column("Proposed", "proposer"),
)


class ChangeFilter(forms.Form):
    """Which decided changes; empty does not narrow."""

    text = forms.CharField(label="Number, reason or release", required=False, max_length=100)
    state = forms.ChoiceField(
        label="State",
        required=False,
        choices=[("", "any"), *((key, word) for key, word in WORDS.items() if key not in changes.UNDECIDED)],
    )
    proposer = forms.CharField(label="Proposed by", required=False, max_length=150)


class RejectForm(forms.Form):
    """Why not; the proposer reads it."""

    reason = forms.CharField(label="Reason", max_length=2000, widget=forms.Textarea(attrs={"rows": 2}))


@dataclass(frozen=True)
class ChangeLine:
    """A change with its state in words."""

    item: changes.ChangeRow
    level: str
    word: str
    mine: bool

    @property
    def about(self) -> str:
        """What it is about, for people: the model and its version where the facts name one."""
        bundle, version = self.item.facts.get("bundle"), self.item.facts.get("version")
        return f"{bundle} {version}" if bundle else self.item.subject

    @property
    def of_release(self) -> bool:
        """Whether the subject is a release's digest, so that it can be linked."""
        return self.item.kind.startswith("release.")


@access.requires(Permission.CHANGE_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Open changes first, then what was decided."""
    undecided = [_line(request, item) for item in changes.changes(states=changes.UNDECIDED)]
    rows, asked = listing.read(request, ChangeFilter, COLUMNS, first="-number").fetch(changes.decided)
    context = {
        "open": undecided,
        "decided": [_line(request, item) for item in rows],
        "waiting": sum(1 for line in undecided if line.mine),
        "list": asked,
    }
    return render(request, "console/changes/list.html", context)


@access.requires(Permission.CHANGE_VIEW)
@require_GET
def detail(request: HttpRequest, change_id: int) -> HttpResponse:
    """One change, whole."""
    return render(request, "console/changes/detail.html", _context(request, change_id))


@access.requires(Permission.CHANGE_VIEW)
@require_GET
def live(request: HttpRequest, change_id: int) -> HttpResponse:
    """What became of it, while that still moves."""
    return render(request, "console/changes/_outcome.html", _context(request, change_id))


@sensitive_post_parameters("password", "code")
@access.requires(Permission.CHANGE_APPROVE)
@require_POST
@access.takes(second_factor.ProofForm)
def approve(request: HttpRequest, change_id: int) -> HttpResponse:
    """Sign the change; the last signature carries it out."""
    form = second_factor.ProofForm(request.POST)
    if not form.is_valid():
        access.say(request, access.FAILED, "Your password and a one-time code are needed. Nothing was signed.")
        return redirect("change", change_id)
    tally = None
    with access.attempt(request, target=f"change:{change_id}"):
        tally = changing.approve(actor=access.actor(request), change_id=change_id, **form.cleaned_data)
    if tally is not None:
        rest = "It is being carried out." if tally.passed else f"{tally.missing} more needed."
        access.say(request, access.WELL, f"You have signed change {change_id}. {rest}")
    return redirect("change", change_id)


@access.requires(Permission.CHANGE_APPROVE)
@require_POST
@access.takes(RejectForm)
def reject(request: HttpRequest, change_id: int) -> HttpResponse:
    """Say no; the change is closed for good."""
    form = RejectForm(request.POST)
    if not form.is_valid():
        access.say(request, access.FAILED, "Say why. The change is still open.")
        return redirect("change", change_id)
    with access.attempt(request, target=f"change:{change_id}") as tried:
        changing.reject(actor=access.actor(request), change_id=change_id, reason=form.cleaned_data["reason"])
    if not tried.refused:
        access.say(request, access.WELL, f"Change {change_id} is rejected. What runs now goes on.")
    return redirect("change", change_id)


@access.requires(Permission.CHANGE_PROPOSE)
@require_POST
@access.takes()
def withdraw(request: HttpRequest, change_id: int) -> HttpResponse:
    """The proposer takes it back."""
    with access.attempt(request, target=f"change:{change_id}") as tried:
        changing.withdraw(actor=access.actor(request), change_id=change_id)
    if not tried.refused:
        access.say(request, access.WELL, f"Change {change_id} is withdrawn. What runs now goes on.")
    return redirect("change", change_id)


def _context(request: HttpRequest, change_id: int) -> dict[str, Any]:
    change = changes.change(change_id)
    if change is None:
        raise Http404
    me, line = access.actor(request), _line(request, change)
    deployment = next((item for item in releases.deployments() if item.change_id == change.id), None)
    starting = deployment is not None and deployment.state == "starting"
    serving = current.of(request).serving
    # Against what runs now until it runs itself; afterwards against nothing, because now has moved on.
    pending = change.state in {"open", "approved"} or starting
    runs = changes.change(serving.change_id) if serving and pending and line.of_release else None
    rows = diff.rows(runs.facts if runs else None, change.facts)
    level, word = DEPLOYED.get(deployment.state if deployment else "", (line.level, line.word))
    may_sign = [name for name in accounts.holders(Permission.CHANGE_APPROVE) if name != change.proposer]
    return {
        "change": change,
        "line": line,
        "level": level,
        "word": word,
        "rows": rows,
        "runs": runs,
        "changed": sum(1 for row in rows if row.changed),
        "missing": [name for name in may_sign if name not in change.tally.approved_by],
        "names": {row.username: row.display_name for row in accounts.people()},
        "deployment": deployment,
        "moving": change.state == "approved" or starting,
        "approve_form": second_factor.ProofForm() if line.mine else None,
        "reject_form": RejectForm() if line.mine else None,
        "may_withdraw": change.state == "open"
        and change.proposer == me
        and access.may(request, Permission.CHANGE_PROPOSE),
        "why_not": _why_not(request, change),
        "as_of": timezone.now(),
    }


def _why_not(request: HttpRequest, change: changes.ChangeRow) -> str:
    """Why this person is not offered the form, when they could expect it."""
    me = access.actor(request)
    if change.state != "open":
        return ""
    if change.proposer == me:
        return "You proposed this change, so two other people must approve it."
    if me in change.tally.approved_by:
        return "You have signed. Somebody else must sign as well."
    if not access.may(request, Permission.CHANGE_APPROVE):
        return "Your roles do not approve changes."
    return ""


def _line(request: HttpRequest, item: changes.ChangeRow) -> ChangeLine:
    me = access.actor(request)
    mine = (
        item.state == "open"
        and access.may(request, Permission.CHANGE_APPROVE)
        and item.proposer != me
        and me not in item.tally.approved_by
    )
    return ChangeLine(item, LEVELS.get(item.state, "unknown"), WORDS.get(item.state, item.state_label), mine)
