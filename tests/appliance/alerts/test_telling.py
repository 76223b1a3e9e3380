"""Alerts and what is told of them: one transaction, again until taken, silent while somebody said so, dead channels shown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from appliance.alerts import errors, rules, selectors, services, tasks
from appliance.alerts.models import Delivery, Silence
from appliance.alerts.rules import Severity
from appliance.alerts.services import channels
from provisioning.site_channels import Channel
from provisioning.site_config import Site
from tests.appliance.alerts import servers
from tests.appliance.alerts.servers import channel
from tests.console.door import records

pytestmark = pytest.mark.django_db

Name = Callable[..., None]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def name(site: Site, settings: Settings) -> Name:
    """The channels of this test's site file."""

    def named(*those: Channel) -> None:
        settings.SITE = replace(site, alert_channels=those)

    return named


def hot(severity: Severity = Severity.CRITICAL, detail: str = "") -> int:
    return services.open_(actor="sampler", key="gpu.hot", severity=severity, title="GPU is hot", detail=detail).id


def over() -> None:
    services.close(actor="sampler", key="gpu.hot", reason="cooled")


def later() -> None:
    """As if the wait before the next try were over."""
    Delivery.objects.update(not_before=timezone.now())


def states() -> list[tuple[str, str]]:
    return list(Delivery.objects.order_by("pk").values_list("event", "state"))


def test_opening_worsening_and_closing_are_each_told_once(name: Name) -> None:
    with servers.http(None) as heard:
        name(channel("webhook", heard.port, ca=None))
        hot(Severity.WARNING)
        hot(Severity.WARNING, detail="again")
        hot(Severity.CRITICAL)
        tasks.deliver()
        over()
        tasks.deliver()
        tasks.deliver()
    assert [headers["webhook-id"] for _path, headers, _body in heard.said] == [
        f"alert_{row.pk}" for row in Delivery.objects.order_by("pk")
    ]
    assert states() == [("opened", "sent"), ("worsened", "sent"), ("closed", "sent")]


def test_what_is_told_is_undone_with_its_alert(name: Name) -> None:
    name(channel("webhook", 9, ca=None))
    with transaction.atomic():
        hot()
        assert Delivery.objects.count() == 1
        transaction.set_rollback(True)
    assert (Delivery.objects.count(), selectors.standing()) == (0, ())


def test_a_channel_hears_of_what_is_urgent_enough_for_it(name: Name) -> None:
    name(channel("webhook", 9, ca=None, name="night", least="critical"), channel("webhook", 9, ca=None, name="day"))
    hot(Severity.WARNING)
    assert list(Delivery.objects.values_list("channel", flat=True)) == ["day"]


def test_what_was_not_taken_is_tried_again_later_and_each_try_is_shown(name: Name) -> None:
    with servers.http(None, status=500) as heard:
        name(channel("webhook", heard.port, ca=None))
        hot()
        tasks.deliver()
        tasks.deliver()
    assert len(heard.said) == 1, "the second run comes before the wait is over"
    (row,) = selectors.deliveries()
    assert (row.state, row.tries) == ("waiting", 1)
    assert row.last is not None
    assert (row.last.code, row.last.said) == ("alert_refused", "it answered 500")


def test_a_dead_channel_rings_on_the_others_and_is_over_when_it_takes_something(name: Name) -> None:
    with servers.http(None) as well, servers.http(None, status=503) as ill:
        dead = channel("webhook", ill.port, ca=None, name="dead")
        name(dead, channel("webhook", well.port, ca=None, name="alive"))
        hot()
        for _ in range(rules.DEAD_AFTER):
            tasks.deliver()
            later()
        tasks.deliver()
        assert rules.CHANNEL + "dead" in selectors.standing_keys()
        assert [view.dead for view in selectors.channels()] == [True, False]
        told = {row.channel for row in selectors.deliveries() if row.title == "Alerts do not get out by dead"}
        assert told == {"alive"}
    with servers.http(None) as mended:
        name(channel("webhook", mended.port, ca=None, name="dead"))
        later()
        tasks.deliver()
    assert rules.CHANNEL + "dead" not in selectors.standing_keys()


def test_it_is_given_up_after_the_last_try(name: Name) -> None:
    name(channel("webhook", 9, ca=None))
    hot()
    Delivery.objects.update(tries=rules.MOST_TRIES - 1)
    tasks.deliver()
    assert states()[0] == ("opened", "given_up")


def test_a_channel_that_left_the_site_file_is_told_nothing_more(name: Name) -> None:
    name(channel("webhook", 9, ca=None, name="old"), channel("webhook", 9, ca=None, name="new"))
    hot()
    name(channel("webhook", 9, ca=None, name="new"))
    tasks.deliver()
    assert set(Delivery.objects.values_list("channel", "state")) == {("old", "dropped"), ("new", "waiting")}


def test_a_silenced_alert_is_told_nobody_stays_listed_and_is_told_when_the_silence_ends(name: Name) -> None:
    with servers.http(None) as heard:
        name(channel("webhook", heard.port, ca=None))
        number = hot()
        services.silence(actor="erin", alert_id=number, reason="The cooling is being mended.", hours=4)
        tasks.deliver()
        assert heard.said == []
        assert [alert.key for alert in selectors.standing()] == ["gpu.hot"]
        assert selectors.silences()["gpu.hot"].by == "erin"

        Silence.objects.update(begun_at=timezone.now() - timedelta(hours=5), until=timezone.now())
        later()
        tasks.deliver()
        assert len(heard.said) == 1
    assert [row.actor for row in records(action="alert.silenced")] == ["erin"]


def test_what_came_and_went_under_a_silence_is_told_nobody(name: Name) -> None:
    with servers.http(None) as heard:
        name(channel("webhook", heard.port, ca=None))
        services.silence(actor="erin", alert_id=hot(), reason="mending", hours=4)
        over()
        later()
        tasks.deliver()
    assert heard.said == []
    assert states() == [("opened", "dropped")]


def test_a_fault_that_gets_worse_is_told_whatever_was_silenced(name: Name) -> None:
    with servers.http(None) as heard:
        name(channel("webhook", heard.port, ca=None))
        services.silence(actor="erin", alert_id=hot(Severity.WARNING), reason="mending", hours=4)
        tasks.deliver()
        assert heard.said == []
        hot(Severity.CRITICAL)
        tasks.deliver()
        assert len(heard.said) == 1
    assert selectors.silences() == {}


def test_a_test_that_is_taken_ends_the_alarm_about_its_channel(name: Name) -> None:
    with servers.http(None) as heard:
        name(channel("webhook", heard.port, ca=None))
        key = rules.CHANNEL + "soc"
        services.open_(actor="alert-teller", key=key, severity=Severity.CRITICAL, title="Alerts do not get out")
        channels.test_channel(actor="erin", name="soc")
    assert key not in selectors.standing_keys()


@pytest.mark.parametrize(("reason", "hours"), [("", 4), ("  ", 4), ("mending", 0), ("mending", -1), ("mending", 169)])
def test_a_silence_has_a_reason_and_an_end_within_a_week(reason: str, hours: int) -> None:
    number = hot()
    with pytest.raises(errors.SilenceError):
        services.silence(actor="erin", alert_id=number, reason=reason, hours=hours)
    services.silence(actor="erin", alert_id=number, reason="mending", hours=168)


def test_what_is_over_cannot_be_silenced_and_the_database_refuses_a_longer_silence() -> None:
    number = hot()
    now = timezone.now()
    with pytest.raises(IntegrityError), transaction.atomic():
        Silence.objects.create(key="k", by="erin", reason="r", begun_at=now, until=now + timedelta(days=8))
    over()
    with pytest.raises(errors.ClosedError):
        services.silence(actor="erin", alert_id=number, reason="mending", hours=1)


def test_a_channel_is_tested_now_with_the_answer_in_words_and_a_record_either_way(name: Name, tmp_path: Path) -> None:
    with servers.http(None) as heard:
        name(channel("webhook", heard.port, ca=None))
        assert channels.test_channel(actor="erin", name="soc") == "it answered 204"
    assert b"Nothing is wrong" in heard.said[0][2]
    with pytest.raises(errors.DeliveryError):
        channels.test_channel(actor="erin", name="soc")
    with pytest.raises(errors.NoSuchChannelError):
        channels.test_channel(actor="erin", name="none")
    assert [row.outcome for row in records(action="alert.channel_tested")] == ["alert_unreachable", "ok"]
    assert selectors.deliveries()[0].title == "Test of the channel"


def test_a_test_whose_process_died_is_dropped_and_not_sent_later(name: Name) -> None:
    with servers.http(None) as heard:
        name(channel("webhook", heard.port, ca=None))
        now = timezone.now()
        Delivery.objects.create(channel="soc", event="test", not_before=now, created_at=now)
        tasks.deliver()
    assert (heard.said, states()) == ([], [("test", "dropped")])


def test_without_a_channel_nothing_is_written_and_nothing_is_tried() -> None:
    hot()
    tasks.deliver()
    assert Delivery.objects.count() == 0
    assert selectors.channels() == ()


def test_old_deliveries_are_forgotten_and_waiting_ones_are_not(name: Name) -> None:
    name(channel("webhook", 9, ca=None))
    hot()
    services.forget(now=timezone.now() + timedelta(days=400))
    assert Delivery.objects.count() == 1
    Delivery.objects.update(state="sent", ended_at=timezone.now() - timedelta(days=91))
    services.forget(now=timezone.now())
    assert Delivery.objects.count() == 0


def test_the_lan_api_opens_alerts_and_holds_no_way_out() -> None:
    program = (
        "import django, sys; django.setup(); import inference.api.app; "
        "print([name for name in ('appliance.alerts.wire', 'smtplib', 'pysnmp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
