"""How alerts leave, against real servers: what arrives, and each refusal beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from appliance import webhook
from appliance.alerts import rules, wire
from appliance.alerts.errors import DeliveryError
from provisioning.site_channels import Channel
from tests.appliance.alerts import servers
from tests.appliance.alerts.servers import Pki, channel

SECRET = b"k" * 32
AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
HOT = rules.Message(
    ref="alert_7",
    event="opened",
    key="gpu.temperature.GPU-1",
    severity="critical",
    title="GPU is hot",
    detail="90 °C or more\non GPU-1",
    at=AT,
    box="St. Anna",
    serial="IW-0001",
)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return servers.pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return servers.pki(tmp_path_factory.mktemp("other")).ca


def refused(to: Channel) -> str:
    with pytest.raises(DeliveryError) as refusal:
        wire.send(to, HOT, secret=SECRET)
    return refusal.value.code


def test_syslog_over_tls_carries_one_counted_line(trust: Pki) -> None:
    with servers.syslog(trust) as heard:
        wire.send(channel("syslog", heard.port, ca=trust.ca), HOT, secret=SECRET)
        wire.send(channel("syslog", heard.port, ca=trust.ca), HOT, secret=SECRET)
    first, second = heard.said
    assert first == second
    assert first == (
        '<130>1 2026-03-01T12:30:00.000000Z IW-0001 isoward - opened [alert@32473 key="gpu.temperature.GPU-1" ref="alert_7"] '
        "\ufeff[opened] GPU is hot. 90 °C or more on GPU-1 (gpu.temperature.GPU-1, St. Anna, serial IW-0001)"
    )


def test_mail_goes_over_starttls_with_one_subject(trust: Pki) -> None:
    with servers.mail(trust) as heard:
        said = wire.send(channel("mail", heard.port, ca=trust.ca), HOT, secret=SECRET)
    ((sender, to, content, over_tls),) = heard.said
    assert (sender, to, over_tls) == ("box@hospital.example", ["it@hospital.example"], True)
    assert "Subject: [critical] St. Anna: GPU is hot\r\n" in content
    assert said == "the mail server took it for 1 of 1"


def test_a_webhook_is_signed_as_the_official_client_checks_it(trust: Pki) -> None:
    with servers.http(trust) as heard:
        said = wire.send(channel("webhook", heard.port, ca=trust.ca), HOT, secret=SECRET)
    ((path, headers, body),) = heard.said
    assert (said, path) == ("it answered 204", "/alerts")
    assert json.loads(body)["data"]["title"] == "GPU is hot"
    client = OpenAI(api_key="none", webhook_secret=webhook.shown(SECRET))
    client.webhooks.verify_signature(body.decode(), headers)
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body.decode() + " ", headers)


@pytest.mark.parametrize("kind", ["syslog", "mail", "webhook"])
def test_a_server_of_another_ca_or_with_another_name_is_told_nothing(kind: str, trust: Pki, other_ca: Path) -> None:
    serve = {"syslog": servers.syslog, "mail": servers.mail, "webhook": servers.http}[kind]
    with serve(trust) as heard:
        assert refused(channel(kind, heard.port, ca=other_ca)) == "alert_certificate"
        if kind != "webhook":
            other_name = channel(kind, heard.port, ca=trust.ca, server_name="elsewhere.example")
            assert refused(other_name) == "alert_certificate"
        assert refused(channel(kind, heard.port, ca=Path("/no/such/ca.pem"))) == "alert_certificate"
    assert heard.said == []


def test_a_mail_server_without_starttls_is_told_nothing(trust: Pki) -> None:
    with servers.mail(None) as heard:
        assert refused(channel("mail", heard.port, ca=trust.ca)) == "alert_no_tls"
    assert heard.said == []


def test_a_redirect_is_not_followed_and_an_error_is_no_receipt(trust: Pki) -> None:
    for status, code in ((302, "alert_redirected"), (500, "alert_refused")):
        with servers.http(trust, status=status) as heard:
            assert refused(channel("webhook", heard.port, ca=trust.ca)) == code
        assert len(heard.said) == 1


@pytest.mark.parametrize("kind", ["syslog", "mail", "webhook"])
def test_nobody_there_is_said_in_words(kind: str, trust: Pki) -> None:
    with servers.http(None) as gone:
        pass
    assert refused(channel(kind, gone.port, ca=trust.ca)) == "alert_unreachable"


def test_nothing_in_a_message_begins_another_line_or_header() -> None:
    odd = rules.plain("a\r\nBcc: x\x00\x85\u2028b")
    assert odd == "a Bcc: x b" or "\n" not in odd
    assert not set(odd) & set("\r\n\x00\x85")
