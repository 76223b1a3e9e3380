"""The channels of the site file: each odd one is refused with the key and the fix, and a public address always."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioning import site_config
from provisioning.evaluation import site_file

SYSLOG = """
[[alerts.channel]]
name = "soc"
kind = "syslog"
address = "10.1.2.3:6514"
server_name = "logs.hospital.example"
ca = "/etc/appliance/hospital-ca.pem"
"""
MAIL = """
[[alerts.channel]]
name = "mail"
kind = "mail"
address = "[fd00::25]:25"
server_name = "mail.hospital.example"
ca = "/etc/appliance/hospital-ca.pem"
least = "critical"
sender = "isoward@hospital.example"
to = ["it@hospital.example"]
"""
HOOK = """
[[alerts.channel]]
name = "hook"
kind = "webhook"
url = "https://10.1.2.5:8443/alerts"
ca = "/etc/appliance/hospital-ca.pem"
"""
METRICS = '[metrics]\nlisten = "10.1.2.4:9400"\n'


@pytest.fixture
def site_toml(tmp_path: Path) -> Path:
    layout = site_file.Layout(tmp_path / "s")
    site_file.write(layout)
    return layout.site_file


def read(site_toml: Path, text: str) -> site_config.Site:
    site_toml.write_text(site_toml.read_text() + text)
    return site_config.read(site_toml)


def test_three_kinds_of_channel_are_read_and_none_is_there_by_itself(site_toml: Path) -> None:
    plain = site_config.read(site_toml)
    assert (plain.alert_channels, plain.metrics) == ((), None)
    site = read(site_toml, SYSLOG + MAIL + HOOK + METRICS)
    assert [(item.name, item.kind, item.place, item.least) for item in site.alert_channels] == [
        ("soc", "syslog", "10.1.2.3:6514", "warning"),
        ("mail", "mail", "[fd00::25]:25", "critical"),
        ("hook", "webhook", "10.1.2.5:8443", "warning"),
    ]
    assert site.metrics is not None
    assert (str(site.metrics.host), site.metrics.port) == ("10.1.2.4", 9400)


@pytest.mark.parametrize(
    ("table", "old", "new", "named"),
    [
        (SYSLOG, "10.1.2.3:6514", "8.8.8.8:6514", "not on a private network"),
        (SYSLOG, "10.1.2.3:6514", "logs.lan:6514", "write an address and a port, no name"),
        (SYSLOG, "10.1.2.3:6514", "10.1.2.3", "write an address and a port"),
        (SYSLOG, "10.1.2.3:6514", "10.1.2.3:0", "a port is a number"),
        (SYSLOG, "10.1.2.3:6514", "0.0.0.0:6514", "not on a private network"),
        (SYSLOG, 'kind = "syslog"', 'kind = "pager"', "write one of: syslog, mail, snmp, webhook"),
        (SYSLOG, 'ca = "/etc/appliance/hospital-ca.pem"', "", "alerts.channel.ca is None"),
        (SYSLOG, 'ca = "/etc', 'ca = "etc', "write the absolute path"),
        (SYSLOG, 'server_name = "logs.hospital.example"', "", "alerts.channel.server_name is None"),
        (SYSLOG, 'name = "soc"', 'name = "The SOC"', "alerts.channel.name is"),
        (SYSLOG, 'name = "soc"', 'name = "soc"\nleast = "any"', "write one of: info, warning, critical"),
        (
            SYSLOG,
            'name = "soc"',
            'name = "soc"\nport = 1',
            "alerts.channel.port is not a known key of a syslog channel",
        ),
        (MAIL, 'to = ["it@hospital.example"]', "to = []", "at least one mail address"),
        (MAIL, '"it@hospital.example"', '"it@hospital.example\\nBcc: x@y.z"', "not a mail address"),
        (HOOK, "https://10.1.2.5:8443", "https://1.1.1.1", "not on a private network"),
        (HOOK, "https://10.1.2.5:8443", "https://user@10.1.2.5", "alerts.channel.url of hook"),
        (HOOK, "https://10.1.2.5:8443", "ftp://10.1.2.5", "alerts.channel.url of hook"),
        (HOOK, "[[alerts.channel]]", "[alerts]\nx = 1\n[[alerts.channel]]", "holds [[alerts.channel]] tables"),
        (METRICS, "10.1.2.4:9400", "0.0.0.0:9400", "not on a private network"),
        (METRICS, "listen", "bind", "[metrics] has one key"),
    ],
)
def test_it_refuses_an_odd_channel_and_names_the_key(
    site_toml: Path, table: str, old: str, new: str, named: str
) -> None:
    assert old in table
    with pytest.raises(site_config.SiteError) as refusal:
        read(site_toml, table.replace(old, new, 1))
    assert named in str(refusal.value)
    assert str(site_toml) in str(refusal.value)


def test_two_channels_of_one_name_are_refused(site_toml: Path) -> None:
    with pytest.raises(site_config.SiteError, match="given twice"):
        read(site_toml, SYSLOG + SYSLOG)


SNMP = """
[[alerts.channel]]
name = "noc"
kind = "snmp"
address = "10.1.2.7:162"
user = "isoward"
secret = "/etc/appliance/secrets/snmp-noc"
"""


def test_an_snmp_channel_names_its_user_and_where_its_secret_is(site_toml: Path) -> None:
    (channel,) = read(site_toml, SNMP).alert_channels
    assert (channel.kind, channel.user, str(channel.secret)) == ("snmp", "isoward", "/etc/appliance/secrets/snmp-noc")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('secret = "/etc/appliance/secrets/snmp-noc"', 'secret = "public"', "alerts.channel.secret is 'public'"),
        ('secret = "/etc/appliance/secrets/snmp-noc"', "", "alerts.channel.secret is None"),
        ('user = "isoward"', 'user = ""', "alerts.channel.user is ''"),
        ("10.1.2.7:162", "1.1.1.1:162", "not on a private network"),
        ('user = "isoward"', 'community = "public"', "alerts.channel.community is not a known key of a snmp channel"),
    ],
)
def test_it_refuses_an_odd_snmp_channel(site_toml: Path, old: str, new: str, named: str) -> None:
    with pytest.raises(site_config.SiteError) as refusal:
        read(site_toml, SNMP.replace(old, new, 1))
    assert named in str(refusal.value)
