"""Refusals about the sealed account, each with its stable code."""

from __future__ import annotations


class EmergencyError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""

    code = "emergency_refused"


class NotEligibleError(EmergencyError):
    """The person may not open or review this: no such right, a second vote, or one of those who opened it."""

    code = "emergency_not_eligible"


class OverError(EmergencyError):
    """Nothing is asked for any more, or it is not at the point that this act needs."""

    code = "emergency_over"


class StandingError(EmergencyError):
    """One opening stands already, or was not reviewed: the account opens once before somebody has looked."""

    code = "emergency_standing"
