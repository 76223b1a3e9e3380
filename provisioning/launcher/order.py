"""`order.json`: what a slot is asked to run, read as if a stranger had written it.

Decides: its form. Leaves to `verify` whether any of it is true.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provisioning.approval import Approval, ChangeFacts, RosterEntry
from provisioning.bundle.strict_json import JsonError, Limits, loads
from provisioning.canonical import NotCanonicalError
from provisioning.launcher.errors import LaunchRefusedError

FORMAT = "isoward-launch-order-v1"
SIZE = 4 * 1024 * 1024
_MOST_PEOPLE = 1000

_ORDER = {"format", "slot", "deployment", "change", "approvals", "roster"}
_CHANGE = {"id", "kind", "subject", "facts", "proposer", "quorum", "digest"}
_APPROVAL = {"approver", "key_id", "signature"}
_ROSTER = {"person", "key_id", "public_key", "mac"}
_HEX_64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Order:
    """One order, typed; `claimed_digest` is what its writer says the change's digest is."""

    slot: str
    deployment: int
    change: ChangeFacts
    claimed_digest: str
    approvals: tuple[Approval, ...]
    roster: tuple[RosterEntry, ...]


def parse(data: bytes) -> Order:
    """The order in `data`; LaunchRefusedError `order_syntax` for anything else."""
    try:
        value = loads(data, Limits(size=SIZE, depth=16))
        body = _object(value, _ORDER)
        if body["format"] != FORMAT:
            raise _odd("its format")
        return Order(
            slot=_text(body["slot"]),
            deployment=_whole(body["deployment"]),
            change=_change(_object(body["change"], _CHANGE)),
            claimed_digest=_hex(body["change"]["digest"]),
            approvals=tuple(_approval(_object(entry, _APPROVAL)) for entry in _list(body["approvals"])),
            roster=tuple(_entry(_object(entry, _ROSTER)) for entry in _list(body["roster"])),
        )
    except (JsonError, NotCanonicalError, binascii.Error) as error:
        raise LaunchRefusedError("order_syntax", f"the order cannot be read: {error}") from None


def _change(value: Mapping[str, Any]) -> ChangeFacts:
    if not isinstance(value["facts"], dict):
        raise _odd("its facts")
    return ChangeFacts(
        id=_whole(value["id"]),
        kind=_text(value["kind"]),
        subject=_text(value["subject"]),
        facts=value["facts"],
        proposer=_text(value["proposer"]),
        quorum=_whole(value["quorum"]),
    )


def _approval(value: Mapping[str, Any]) -> Approval:
    return Approval(_text(value["approver"]), _text(value["key_id"]), _base64(value["signature"]))


def _entry(value: Mapping[str, Any]) -> RosterEntry:
    mac = bytes.fromhex(_hex(value["mac"]))
    return RosterEntry(_text(value["person"]), _text(value["key_id"]), _base64(value["public_key"]), mac)


def _object(value: Any, names: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise _odd("the fields of an entry")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MOST_PEOPLE:
        raise _odd("a list of people")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise _odd("a name")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise _odd("a number")
    return value


def _hex(value: Any) -> str:
    if not isinstance(value, str) or not _HEX_64.fullmatch(value):
        raise _odd("a digest")
    return value


def _base64(value: Any) -> bytes:
    if not isinstance(value, str) or not value.isascii():
        raise _odd("a signature or key")
    return base64.b64decode(value, validate=True)


def _odd(what: str) -> LaunchRefusedError:
    return LaunchRefusedError("order_syntax", f"the order cannot be read: {what} is not written as it must be")
