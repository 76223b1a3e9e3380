"""Reads of the alert ledger, as rules.Alert values."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.alerts import rules
from appliance.alerts.errors import NoSuchAlertError
from appliance.alerts.models import Alert


def value(row: Alert) -> rules.Alert:
    """The row as the value that rules and pages use."""
    return rules.Alert(
        id=row.pk,
        key=row.key,
        severity=rules.Severity(row.severity),
        title=row.title,
        detail=row.detail,
        opened_at=row.opened_at,
        acknowledged_by=row.acknowledged_by,
        acknowledged_at=row.acknowledged_at,
        closed_at=row.closed_at,
    )


def standing() -> tuple[rules.Alert, ...]:
    """What is wrong now: the most urgent first, then the oldest."""
    rows = map(value, Alert.objects.filter(closed_at__isnull=True))
    return tuple(sorted(rows, key=lambda alert: (-alert.severity.rank, alert.opened_at)))


def standing_keys(prefix: str = "") -> frozenset[str]:
    """The keys of open alerts, all or those of one watcher."""
    return frozenset(Alert.objects.filter(closed_at__isnull=True, key__startswith=prefix).values_list("key", flat=True))


def recent(limit: int = 200) -> tuple[rules.Alert, ...]:
    """The newest alerts, open or closed."""
    return _values(Alert.objects.order_by("-opened_at", "-pk")[:limit])


def alert(pk: int) -> rules.Alert:
    """One alert by number."""
    row = Alert.objects.filter(pk=pk).first()
    if row is None:
        raise NoSuchAlertError(f"there is no alert {pk}")
    return value(row)


def _values(rows: Iterable[Alert]) -> tuple[rules.Alert, ...]:
    return tuple(value(row) for row in rows)
