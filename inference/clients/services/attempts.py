"""Watch for PHI asked for without the right to: five times within ten minutes from one client, and somebody is told.

One refusal is a record; many are an app that is set up wrongly, or somebody trying (S4-7).
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from appliance.alerts import selectors as standing_alerts
from appliance.alerts import services as alerts
from appliance.alerts.rules import Severity
from appliance.audit import selectors as log
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from inference.clients import rules


@unaudited("alerts.open_ and alerts.close record each one, as this actor")
@transaction.atomic
def watch_attempts(*, actor: str, now: datetime) -> frozenset[str]:
    """Make the alerts match what was refused lately. The clients that are over the line."""
    counted = log.counted(action=Action.PHI_UNAUTHORIZED_ATTEMPT, since=now - rules.ATTEMPTS_WITHIN)
    over = {client: count for client, count in counted.items() if count >= rules.MOST_ATTEMPTS}
    standing = {item.key: item for item in standing_alerts.standing() if item.key.startswith(rules.ATTEMPTS_KEY)}
    for client in over:
        alert = standing.pop(f"{rules.ATTEMPTS_KEY}{client}", None)
        if alert is None:
            alerts.open_(
                actor=actor,
                key=f"{rules.ATTEMPTS_KEY}{client}",
                severity=Severity.WARNING,
                title=f"{client} sent patient data without the right to",
                detail="Refused five times or more within ten minutes; the audit page lists each with its user.",
            )
    for alert in standing.values():
        # It was over in ten minutes whoever did it: an alert that nobody has seen stays until somebody has.
        if alert.acknowledged_by:
            alerts.close(actor=actor, key=alert.key, reason="taken on, and quiet for ten minutes")
    return frozenset(over)
