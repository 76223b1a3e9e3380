"""The doors by which alerts leave: syslog over TLS (RFC 5424, 5425), mail with STARTTLS, SNMP, a signed webhook.

- Only to the address of a channel in the site file; no name is looked up and no redirect followed.
- A server must show a certificate of the channel's own CA for the channel's own name; nothing is said before. SNMP has no
  certificates: version 3's two words stand for them, and version 2c proves nothing.
- What is said: the box, the alert's own words, its state and times. An alert never holds patients' data, so neither does this.
- Syslog has no receipt: "sent" there means that TLS took it.
"""

from __future__ import annotations

import http.client
import re
import smtplib
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from ipaddress import ip_network

from appliance import webhook
from appliance.alerts import traps
from appliance.alerts.errors import DeliveryError
from appliance.alerts.rules import Message, plain
from provisioning.site_channels import Channel
from provisioning.site_config import Destination

TIMEOUT_S = 5.0
_APP = "isoward"
# RFC 5424: facility 16 is local0; the private enterprise number in an SD-ID may be any registered one, 32473 is for examples.
_FACILITY = 16
_SEVERITIES = {"critical": 2, "warning": 4, "info": 6}


def send(channel: Channel, message: Message, *, secret: bytes) -> str:
    """Say it there; returns what the other side answered, in words, or raises DeliveryError."""
    try:
        match channel.kind:
            case "syslog":
                return _syslog(channel, message)
            case "mail":
                return _mail(channel, message)
            case "snmp":
                fields = (
                    message.event,
                    message.severity,
                    message.key,
                    plain(message.title),
                    message.line,
                    message.serial,
                )
                traps.send(channel, fields=fields, within_s=TIMEOUT_S)
                return "the receiver confirmed it"
            case _:
                return _webhook(channel, message, secret)
    except ssl.SSLCertVerificationError as error:
        why = f"its certificate is not for {channel.server_name} from the channel's CA ({error.verify_message})"
        raise DeliveryError("alert_certificate", why) from error
    except smtplib.SMTPNotSupportedError as error:
        raise DeliveryError("alert_no_tls", "the mail server offers no STARTTLS; nothing was sent in clear") from error
    except smtplib.SMTPResponseException as error:
        raise DeliveryError("alert_refused", f"the mail server refused with {error.smtp_code}") from error
    except smtplib.SMTPRecipientsRefused as error:
        raise DeliveryError("alert_refused", "the mail server refused every recipient") from error
    except (OSError, smtplib.SMTPException, http.client.HTTPException) as error:
        raise DeliveryError("alert_unreachable", f"{channel.place} did not answer: {_why(error)}") from error


def frame(message: Message, *, host: str) -> bytes:
    """RFC 5424's line, counted as RFC 5425 wants it."""
    priority = _FACILITY * 8 + _SEVERITIES[message.severity]
    at = message.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    name = re.sub(r"[^\x21-\x7e]", "-", host)[:255] or "-"
    data = f'[alert@32473 key="{_quoted(message.key)}" ref="{_quoted(message.ref)}"]'
    line = (
        f"<{priority}>1 {at} {name} {_APP} - {message.event} {data} ".encode() + b"\xef\xbb\xbf" + message.line.encode()
    )
    return f"{len(line)} ".encode() + line


def _syslog(channel: Channel, message: Message) -> str:
    with socket.create_connection((str(channel.host), channel.port), timeout=TIMEOUT_S) as raw:
        wire = _trust(channel).wrap_socket(raw, server_hostname=channel.server_name)
        wire.sendall(frame(message, host=message.serial))
        # RFC 5425: the end is said, so that the other side knows it has all of it. Some close without a word.
        with suppress(OSError):
            wire.unwrap()
    return "TLS took it"


def _mail(channel: Channel, message: Message) -> str:
    mail = EmailMessage()
    mail["Subject"] = plain(f"[{message.severity}] {message.box}: {message.title}")[:200]
    mail["From"], mail["To"] = channel.sender, ", ".join(channel.to)
    mail["Message-ID"] = f"<{message.ref}@{_APP}.invalid>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(f"{message.line}\n\nSince {message.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC.\n")
    with _Smtp(channel) as wire:
        wire.starttls(context=_trust(channel))
        refused = wire.send_message(mail)
    taken = len(channel.to) - len(refused)
    return f"the mail server took it for {taken} of {len(channel.to)}"


class _Smtp(smtplib.SMTP):
    """SMTP to an address, under the name that its certificate must carry."""

    def __init__(self, channel: Channel) -> None:
        self._address = (str(channel.host), channel.port)
        super().__init__(channel.server_name, channel.port, local_hostname="isoward.invalid", timeout=TIMEOUT_S)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """Smtplib's own place to say how the connection is made; STARTTLS then checks the name given above."""
        return socket.create_connection(self._address, timeout)


def _webhook(channel: Channel, message: Message, secret: bytes) -> str:
    allowed = [Destination(ip_network(str(channel.host)), channel.port)]
    to, body = webhook.target(channel.url, allowed), message.as_json()
    headers = webhook.headers(ref=message.ref, body=body, secret=secret, now=int(datetime.now(UTC).timestamp()))
    trust = _trust(channel) if channel.ca else None
    status = webhook.post(to, body=body, headers=headers, within_s=TIMEOUT_S, trust=trust)
    if 300 <= status < 400:
        raise DeliveryError("alert_redirected", f"it answered {status}: a redirect is not followed")
    if not 200 <= status < 300:
        raise DeliveryError("alert_refused", f"it answered {status}")
    return f"it answered {status}"


def _trust(channel: Channel) -> ssl.SSLContext:
    """The channel's CA and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if channel.ca is None:
        raise DeliveryError("alert_certificate", "the channel names no CA")
    try:
        context.load_verify_locations(cafile=channel.ca)
    except (OSError, ssl.SSLError):
        raise DeliveryError("alert_certificate", f"{channel.ca} cannot be read as CA certificates") from None
    return context


def _quoted(value: str) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", plain(value))


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or type(error).__name__
