"""SNMP: an alert as a notification that its receiver confirms (InformRequest, RFC 3416), version 2c or 3.

The only pysnmp import. Confirmed, so that "sent" means that somebody has it: a bare trap is lost without a word. Version 3
with SHA-256 and AES (RFC 7860, RFC 3826), both always; version 2c has no secret worth the name and is for networks that
have nothing else. The secrets are in a file of the channel, readable by its owner alone.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address

from pysnmp.error import PySnmpError
from pysnmp.hlapi.v3arch.asyncio import (
    USM_AUTH_HMAC192_SHA256,
    USM_PRIV_CFB128_AES,
    CommunityData,
    ContextData,
    SnmpEngine,
    Udp6TransportTarget,
    UdpTransportTarget,
    UsmUserData,
    send_notification,
)
from pysnmp.proto.rfc1902 import ObjectIdentifier, ObjectName, OctetString, TimeTicks

from appliance.alerts.errors import DeliveryError
from provisioning import private_file
from provisioning.site_channels import Channel

# 32473 is the enterprise number for examples (RFC 5612), until there is one of our own.
OID = "1.3.6.1.4.1.32473.1"
_UPTIME, _TRAP = "1.3.6.1.2.1.1.3.0", "1.3.6.1.6.3.1.1.4.1.0"
_LEAST_SECRET = 8
_LARGEST = 256
_LONGEST = 400


def send(channel: Channel, *, fields: tuple[str, ...], within_s: float) -> None:
    """Notify with these texts, in order; DeliveryError unless the receiver confirms it in time."""
    try:
        error = asyncio.run(_inform(channel, _credentials(channel), fields, within_s))
    except (PySnmpError, OSError) as failure:
        raise DeliveryError("alert_unreachable", f"{channel.place} cannot be reached by SNMP") from failure
    if error:
        code = "alert_unreachable" if "timeout" in error.lower() else "alert_refused"
        raise DeliveryError(code, f"{channel.place} did not confirm: {error}")


def _credentials(channel: Channel) -> CommunityData | UsmUserData:
    if channel.secret is None:
        raise DeliveryError("alert_secret", "the channel names no secret file")
    try:
        words = private_file.read(channel.secret, most=_LARGEST).decode("ascii").split()
    except (private_file.PrivateFileError, UnicodeDecodeError) as error:
        raise DeliveryError("alert_secret", f"the channel's secret cannot be used: {error}") from None
    if channel.user:
        if len(words) != 2 or min(map(len, words)) < _LEAST_SECRET:
            raise DeliveryError(
                "alert_secret", "the secret file holds two words of eight letters or more for version 3"
            )
        return UsmUserData(
            channel.user, words[0], words[1], authProtocol=USM_AUTH_HMAC192_SHA256, privProtocol=USM_PRIV_CFB128_AES
        )
    if len(words) != 1:
        raise DeliveryError("alert_secret", "the secret file holds one word for version 2c")
    return CommunityData(words[0], mpModel=1)  # noqa: S508 - for networks that have nothing else; said to the operator


async def _inform(channel: Channel, who: CommunityData | UsmUserData, fields: tuple[str, ...], within_s: float) -> str:
    """What was wrong, in the library's words; empty when it was confirmed."""
    kind = Udp6TransportTarget if isinstance(channel.host, IPv6Address) else UdpTransportTarget
    engine = SnmpEngine()
    try:
        target = await kind.create((str(channel.host), channel.port), timeout=within_s / 2, retries=1)
        texts = [
            (ObjectName(f"{OID}.{number}.0"), OctetString(text.encode()[:_LONGEST]))
            for number, text in enumerate(fields, start=1)
        ]
        error, status, _index, _binds = await send_notification(
            engine, who, target, ContextData(), "inform",
            (ObjectName(_UPTIME), TimeTicks(0)), (ObjectName(_TRAP), ObjectIdentifier(f"{OID}.0.1")), *texts,
            lookupMib=False,
        )  # fmt: skip
    finally:
        engine.close_dispatcher()
    return str(error or "") or (str(status) if int(status) else "")
