"""Where alerts go: the tables [[alerts.channel]] of the site file, as typed values.

Decides: which keys a channel has, that each names an address on a private network, and that nothing is unknown.
Leaves to others: speaking to it (appliance.alerts.wire).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KINDS = ("syslog", "mail", "snmp", "webhook")
LEAST = ("info", "warning", "critical")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_MAILBOX = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,190}")
_MOST = 16


class ChannelError(Exception):
    """A channel is not as it must be. The message names the key and the fix."""


@dataclass(frozen=True)
class Channel:
    """One place that alerts are told. The address is a number: no name is looked up."""

    name: str
    kind: str
    host: IPv4Address | IPv6Address
    port: int
    least: str
    ca: Path | None
    """Whom its certificate must come from; None only for a webhook without TLS."""
    server_name: str
    """The name in its certificate; for a webhook the address itself."""
    url: str = ""
    sender: str = ""
    to: tuple[str, ...] = ()
    user: str = ""
    """For SNMP version 3; empty is version 2c."""
    secret: Path | None = None
    """Where SNMP's words are: the community, or the two of version 3."""

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if self.host.version == 6 else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Scrape:
    """Where Prometheus may ask for numbers: one address of this machine, and from where."""

    host: IPv4Address | IPv6Address
    port: int


def channels(tables: Any) -> tuple[Channel, ...]:
    """The channels of `[alerts]`; ChannelError for anything odd."""
    if not isinstance(tables, dict) or set(tables) - {"channel"}:
        raise ChannelError("[alerts] holds [[alerts.channel]] tables and nothing else")
    rows = tables.get("channel", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or len(rows) > _MOST:
        raise ChannelError(f"alerts.channel must be at most {_MOST} tables written as [[alerts.channel]]")
    found = tuple(_channel(dict(row)) for row in rows)
    names = [channel.name for channel in found]
    if len(set(names)) != len(names):
        raise ChannelError("alerts.channel.name is given twice; name each channel differently")
    return found


def scrape(table: Any) -> Scrape:
    """The address of `[metrics]`."""
    if not isinstance(table, dict) or set(table) != {"listen"}:
        raise ChannelError('[metrics] has one key; write listen = "10.1.2.3:9400"')
    return Scrape(*_address("metrics.listen", table["listen"]))


def _channel(row: dict[str, Any]) -> Channel:
    name = _text(row, "name", _NAME, "a short name of small letters, digits and dashes")
    kind = row.pop("kind", None)
    if kind not in KINDS:
        raise ChannelError(f"alerts.channel.kind of {name} is {kind!r}; write one of: {', '.join(KINDS)}")
    least = row.pop("least", "warning")
    if least not in LEAST:
        raise ChannelError(f"alerts.channel.least of {name} is {least!r}; write one of: {', '.join(LEAST)}")
    if kind == "webhook":
        channel = _webhook(name, least, row)
    elif kind == "snmp":
        channel = _snmp(name, least, row)
    else:
        host, port = _address("alerts.channel.address", row.pop("address", None))
        server = _text(row, "server_name", _HOST, "the name in the server's certificate")
        sender, to = ("", ()) if kind == "syslog" else _people(row)
        channel = Channel(name, kind, host, port, least, _ca(row), server, sender=sender, to=to)
    if row:
        raise ChannelError(f"alerts.channel.{min(row)} is not a known key of a {kind} channel; remove it")
    return channel


def _webhook(name: str, least: str, row: dict[str, Any]) -> Channel:
    url = row.pop("url", None)
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, host, port = urlsplit(""), "", 0
    if parts.scheme not in {"http", "https"} or parts.username is not None or parts.fragment:
        raise ChannelError(f'alerts.channel.url of {name} is {url!r}; write "https://10.1.2.3:8443/alerts"')
    address, port = _address("alerts.channel.url", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    ca = _ca(row) if parts.scheme == "https" else None
    return Channel(name, "webhook", address, port, least, ca, str(address), url=str(url))


def _snmp(name: str, least: str, row: dict[str, Any]) -> Channel:
    host, port = _address("alerts.channel.address", row.pop("address", None))
    user = _text(row, "user", _NAME, "the SNMPv3 user's name") if "user" in row else ""
    secret = _path(row, "secret", "the absolute path of a file with the community, or with version 3's two words")
    return Channel(name, "snmp", host, port, least, None, "", user=user, secret=secret)


def _people(row: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    sender = _text(row, "sender", _MAILBOX, "the address the mail comes from")
    to = row.pop("to", None)
    if not isinstance(to, list) or not 0 < len(to) <= _MOST:
        raise ChannelError("alerts.channel.to must be a list of at least one mail address")
    if not all(isinstance(item, str) and _MAILBOX.fullmatch(item) for item in to):
        raise ChannelError("alerts.channel.to holds something that is not a mail address")
    return sender, tuple(to)


def _text(row: dict[str, Any], key: str, form: re.Pattern[str], fix: str) -> str:
    value = row.pop(key, None)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ChannelError(f"alerts.channel.{key} is {value!r}; write {fix}")
    return value


def _ca(row: dict[str, Any]) -> Path:
    return _path(row, "ca", "the absolute path of the hospital's CA certificate")


def _path(row: dict[str, Any], key: str, fix: str) -> Path:
    value = row.pop(key, None)
    if not isinstance(value, str) or not value.startswith("/") or ".." in Path(value).parts:
        raise ChannelError(f"alerts.channel.{key} is {value!r}; write {fix}")
    return Path(value)


def _address(key: str, value: Any) -> tuple[IPv4Address | IPv6Address, int]:
    host, _, port = (value if isinstance(value, str) else "").rpartition(":")
    try:
        address, number = ip_address(host.removeprefix("[").removesuffix("]")), int(port)
    except ValueError:
        raise ChannelError(f'{key} is {value!r}; write an address and a port, no name: "10.1.2.3:6514"') from None
    if not 0 < number < 65_536:
        raise ChannelError(f"{key} is {value!r}; a port is a number from 1 to 65535")
    if not address.is_private or address.is_unspecified:
        raise ChannelError(f"{key} is {value!r}, which is not on a private network; nothing leaves here")
    return address, number
