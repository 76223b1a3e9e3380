"""Writing changes: propose, approve with a signature, reject, withdraw, carry out.

The signatures are the truth; the state column is only where a change stands. Before anything is carried out the
signatures are checked again over the recomputed digest, so that a row written past this file carries nothing out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from appliance.accounts import selectors as accounts
from appliance.accounts import services as people
from appliance.accounts.permissions import Permission
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.changes import kinds, rules, selectors
from appliance.changes.errors import (
    ChangeError,
    ClosedError,
    ExecutionRefusedError,
    NotEligibleError,
    UnknownChangeError,
)
from appliance.changes.models import Approval, Change
from provisioning import approval

log = logging.getLogger(__name__)


@transaction.atomic
def open_change(*, actor: str, kind: str, subject: str, facts: Mapping[str, Any], reason: str) -> int:
    """Propose a change; returns its id. The digest covers the id, so an approval fits this proposal alone."""
    declared = kinds.get(kind)
    rules.check_facts(declared, facts)
    if not reason.strip():
        raise ChangeError("Say why this change is wanted.")
    change = Change.objects.create(
        kind=kind, subject=subject, facts=facts, quorum=declared.quorum, proposer=actor, reason=reason.strip()
    )
    signed, _ = selectors.signed_facts(change.pk)
    change.digest = signed.digest
    change.save(update_fields=["digest"])
    audit.record(
        actor=actor,
        action=Action.CHANGE_OPENED,
        target=subject,
        change_id=change.pk,
        detail={"kind": kind, "digest": change.digest, "quorum": change.quorum},
    )
    return change.pk


def approve(*, actor: str, change_id: int, password: str, code: str) -> rules.Tally:
    """Sign the change with the actor's own key, opened by both factors; the last signature carries it out."""
    # Outside of the transaction: a wrong code must count even though the approval is rolled back.
    key_id, private_key = people.prove(actor=actor, password=password, code=code)
    tally = _add_approval(actor=actor, change_id=change_id, key_id=key_id, private_key=private_key)
    if tally.passed:
        execute(actor=actor, change_id=change_id)
    return tally


@transaction.atomic
def reject(*, actor: str, change_id: int, reason: str) -> None:
    """An approver says no: the change is closed for good."""
    change = _locked(change_id)
    if change.state != Change.State.OPEN:
        raise ClosedError("This change is not open any more.")
    if Permission.CHANGE_APPROVE not in accounts.permissions_of(actor):
        raise NotEligibleError("You may not decide on changes.")
    _close(change, Change.State.REJECTED, reason.strip())
    audit.record(actor=actor, action=Action.CHANGE_REJECTED, target=change.subject, change_id=change.pk)


@transaction.atomic
def withdraw(*, actor: str, change_id: int) -> None:
    """The proposer takes it back."""
    change = _locked(change_id)
    if change.state != Change.State.OPEN:
        raise ClosedError("This change is not open any more.")
    if actor != change.proposer:
        raise NotEligibleError("Only the person who proposed a change can withdraw it.")
    _close(change, Change.State.WITHDRAWN, "")
    audit.record(actor=actor, action=Action.CHANGE_WITHDRAWN, target=change.subject, change_id=change.pk)


def execute(*, actor: str, change_id: int) -> None:
    """Carry out an approved change, once. Safe to call again: the sweep does, for those a crash left behind."""
    try:
        _execute(actor=actor, change_id=change_id)
    except (ExecutionRefusedError, approval.ApprovalError) as error:
        _fail(actor=actor, change_id=change_id, code=error.code, message=str(error))


@transaction.atomic
def _add_approval(*, actor: str, change_id: int, key_id: str, private_key: Ed25519PrivateKey) -> rules.Tally:
    # Lock first: two people approving at once must not each count only their own.
    change = _locked(change_id)
    rules.check_can_approve(
        actor=actor,
        proposer=change.proposer,
        state_open=change.state == Change.State.OPEN,
        may_approve=Permission.CHANGE_APPROVE in accounts.permissions_of(actor),
        tally=selectors.tally(change),
    )
    signed, _ = selectors.signed_facts(change.pk)
    if signed.digest != change.digest:
        raise ChangeError("This change was altered after it was proposed. Withdraw it and propose again.")
    Approval.objects.create(
        change=change,
        proposer=change.proposer,
        approver=actor,
        digest=signed.digest,
        key_id=key_id,
        signature=approval.sign(private_key, digest=signed.digest, approver=actor),
    )
    tally = selectors.tally(change)
    if tally.passed:
        _close(change, Change.State.APPROVED, "")
    audit.record(
        actor=actor,
        action=Action.CHANGE_APPROVED,
        target=change.subject,
        change_id=change.pk,
        detail={"digest": signed.digest, "key_id": key_id, "missing": tally.missing},
    )
    return tally


@transaction.atomic
def _execute(*, actor: str, change_id: int) -> None:
    change = _locked(change_id)
    if change.state != Change.State.APPROVED:
        return  # somebody else carried it out, or it never was approved
    signed, approvals = selectors.signed_facts(change.pk)
    approvers = approval.check(
        signed, approvals=approvals, roster=accounts.roster(), roster_key=settings.SITE.secret("roster-key")
    )
    import_string(kinds.get(change.kind).executor)(actor=actor, change=signed)
    change.state = Change.State.EXECUTED
    change.executed_at = timezone.now()
    change.save(update_fields=["state", "executed_at"])
    audit.record(
        actor=actor,
        action=Action.CHANGE_EXECUTED,
        target=change.subject,
        change_id=change.pk,
        detail={"approvers": list(approvers), "digest": signed.digest},
    )


@transaction.atomic
def _fail(*, actor: str, change_id: int, code: str, message: str) -> None:
    change = _locked(change_id)
    if change.state != Change.State.APPROVED:
        return
    change.state, change.message = Change.State.FAILED, message
    change.save(update_fields=["state", "message"])
    audit.record(actor=actor, action=Action.CHANGE_FAILED, target=change.subject, change_id=change.pk, outcome=code)


def _close(change: Change, state: Change.State, message: str) -> None:
    change.state, change.message, change.decided_at = state, message, timezone.now()
    change.save(update_fields=["state", "message", "decided_at"])


def _locked(change_id: int) -> Change:
    change = Change.objects.select_for_update().filter(pk=change_id).first()
    if change is None:
        raise UnknownChangeError("There is no such change.")
    return change
