"""The alerts page: what stands, silences with an end, channels with their test, and what was told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytest_django.fixtures import Settings

from appliance.alerts import selectors as alerts
from appliance.alerts import services as alerting
from appliance.alerts import tasks
from appliance.alerts.rules import Severity
from provisioning.site_config import Site
from tests.appliance.alerts import servers
from tests.appliance.alerts.servers import channel
from tests.console.conftest import Enter
from tests.console.door import records, text

pytestmark = pytest.mark.django_db


def hot() -> int:
    return alerting.open_(actor="sampler", key="gpu.hot", severity=Severity.CRITICAL, title="GPU is hot").id


def test_without_faults_and_channels_the_page_says_so(door: Enter) -> None:
    page = text(door("bob").get("/alerts"))
    assert "Nothing is wrong that this machine can see." in page
    assert "Alerts are told nobody" in page


def test_the_most_urgent_is_first_and_the_live_part_says_the_same(door: Enter) -> None:
    alerting.open_(actor="sampler", key="a", severity=Severity.WARNING, title="A warning")
    hot()
    page = text(door("bob").get("/alerts/live"))
    assert page.index("GPU is hot") < page.index("A warning")
    assert "Needs you now" in page
    assert "Silence" not in page


def test_an_alert_is_silenced_with_a_reason_and_an_end_and_stays_listed(door: Enter) -> None:
    number, erin = hot(), door("erin")
    assert "Silence: GPU is hot" in text(erin.get(f"/alerts/{number}/silence"))
    assert "This field is required" in text(erin.post(f"/alerts/{number}/silence", hours=4, reason=""))
    assert "Select a valid choice" in text(erin.post(f"/alerts/{number}/silence", hours=1000, reason="x"))
    assert alerts.silences() == {}
    page = text(
        erin.browser.post(f"/alerts/{number}/silence", {"hours": 4, "reason": "Cooling is mended."}, follow=True)
    )
    assert "GPU is hot" in page
    assert "by erin: Cooling is mended." in page
    assert door("bob").get(f"/alerts/{number}/silence").status_code == 403
    assert erin.get("/alerts/999999/silence").status_code == 404


def test_a_channel_is_tested_from_the_page_and_the_answer_is_in_words(
    door: Enter, site: Site, settings: Settings
) -> None:
    erin = door("erin")
    with servers.http(None) as heard:
        settings.SITE = replace(site, alert_channels=(channel("webhook", heard.port, ca=None),))
        assert "Never tried" in text(erin.get("/alerts"))
        page = text(erin.browser.post("/alerts/channels/soc/test", follow=True))
        assert "A test went out by soc: it answered 204." in page
        assert "Works" in page
    page = text(erin.browser.post("/alerts/channels/soc/test", follow=True))
    assert "alert_unreachable" in page
    assert "Not taken" in page
    assert [row.outcome for row in records(action="alert.channel_tested")] == ["alert_unreachable", "ok"]
    assert "alert_channel_unknown" in text(erin.browser.post("/alerts/channels/none/test", follow=True))


def test_who_may_not_test_sees_the_channel_and_no_button(door: Enter, site: Site, settings: Settings) -> None:
    settings.SITE = replace(site, alert_channels=(channel("webhook", 9, ca=None),))
    page = text(door("bob").get("/alerts"))
    assert "127.0.0.1:9" in page
    assert "/alerts/channels/soc/test" not in page


def test_what_was_told_is_listed_with_its_last_answer(door: Enter, site: Site, settings: Settings) -> None:
    with servers.http(None, status=302) as heard:
        settings.SITE = replace(site, alert_channels=(channel("webhook", heard.port, ca=None),))
        hot()
        tasks.deliver()
    page = text(door("bob").get("/alerts"))
    assert "It answered 302: a redirect is not followed" in page
    assert "1 try" in page
