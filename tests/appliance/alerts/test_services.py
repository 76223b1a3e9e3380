"""Open, take on, close: one open alert per fault, whoever asks, and a record of each act."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from appliance.alerts import errors, selectors, services
from appliance.alerts.models import Alert
from appliance.alerts.rules import Severity

pytestmark = pytest.mark.django_db


def open_(severity: Severity = Severity.WARNING, detail: str = "") -> int:
    return services.open_(
        actor="sampler", key="gpu.missing", severity=severity, title="A GPU is gone", detail=detail
    ).id


def audited() -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT action, actor FROM audit_record WHERE action LIKE 'alert.%%' ORDER BY seq")
        return list(cursor.fetchall())


def test_opening_twice_leaves_one_alert_and_one_record() -> None:
    first = open_(detail="one")
    second = open_(detail="two")

    assert first == second
    (alert,) = selectors.standing()
    assert alert.detail == "two"
    assert audited() == [("alert.opened", "sampler")]


def test_the_database_refuses_a_second_open_alert_and_allows_one_after_the_close() -> None:
    open_()
    with pytest.raises(IntegrityError), transaction.atomic():
        Alert.objects.create(key="gpu.missing", severity="warning", title="again", opened_at=timezone.now())

    assert services.close(actor="sampler", key="gpu.missing", reason="back")
    Alert.objects.create(key="gpu.missing", severity="warning", title="again", opened_at=timezone.now())


def test_closing_what_is_not_open_changes_nothing() -> None:
    assert not services.close(actor="sampler", key="gpu.missing", reason="back")
    assert audited() == []


def test_dave_takes_an_alert_on_and_erin_is_told_that_he_has() -> None:
    pk = open_()

    assert services.acknowledge(actor="dave", alert_id=pk).acknowledged_by == "dave"
    with pytest.raises(errors.TakenError, match="dave"):
        services.acknowledge(actor="erin", alert_id=pk)
    services.acknowledge(actor="dave", alert_id=pk)

    assert audited() == [("alert.opened", "sampler"), ("alert.acknowledged", "dave")]


def test_a_closed_alert_cannot_be_taken_on() -> None:
    pk = open_()
    services.close(actor="sampler", key="gpu.missing", reason="back")

    with pytest.raises(errors.ClosedError):
        services.acknowledge(actor="dave", alert_id=pk)
    with pytest.raises(errors.NoSuchAlertError):
        services.acknowledge(actor="dave", alert_id=pk + 1)


def test_a_fault_that_gets_worse_needs_a_new_look_and_one_that_eases_stays_as_bad() -> None:
    pk = open_(Severity.WARNING)
    services.acknowledge(actor="dave", alert_id=pk)

    open_(Severity.CRITICAL)
    assert selectors.alert(pk).severity is Severity.CRITICAL
    assert selectors.alert(pk).acknowledged_by == ""

    open_(Severity.WARNING)
    assert selectors.alert(pk).severity is Severity.CRITICAL


def test_the_most_urgent_comes_first() -> None:
    services.open_(actor="sampler", key="a", severity=Severity.INFO, title="a")
    services.open_(actor="sampler", key="b", severity=Severity.CRITICAL, title="b")

    assert [alert.key for alert in selectors.standing()] == ["b", "a"]
