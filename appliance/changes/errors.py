"""Refusals about changes, each with its stable code."""

from __future__ import annotations


class ChangeError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""

    code = "change_refused"


class FactsError(ChangeError):
    """The facts are not what this kind of change declares."""

    code = "change_facts"


class ClosedError(ChangeError):
    """The change is not open any more."""

    code = "change_closed"


class NotEligibleError(ChangeError):
    """The person may not approve this change: the proposer, a second vote, or no such right."""

    code = "approval_not_eligible"


class UnknownChangeError(ChangeError):
    """There is no such change."""

    code = "change_unknown"


class ExecutionRefusedError(ChangeError):
    """Raised by an executor: the approved change cannot be carried out as things stand; it ends as failed."""

    code = "change_execution_refused"
