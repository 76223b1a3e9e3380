"""The two files of a slot: the order that says what it may run, and the keeper's report of what it does.

Decides their bytes and how they are written: an order is whole or absent, never half. The keeper on the other side is
`provisioning.launcher`, which believes nothing here: it checks every signature and every byte again (SECURITY.md T35).

No order means that the slot must be empty.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from inference.engines.errors import SlotError
from provisioning import canonical
from provisioning.approval import Approval, ChangeFacts, RosterEntry
from provisioning.durable import replace_whole

ORDER = "order.json"
REPORT = "report.json"
FORMAT = "isoward-launch-order-v1"
LARGEST_REPORT = 65_536

STATES = frozenset({"verifying", "starting", "running", "refused", "exited"})


@dataclass(frozen=True)
class Report:
    """What the keeper of a slot last said about one deployment."""

    deployment: int
    state: str
    code: str
    message: str

    @property
    def ended(self) -> bool:
        """Nothing runs."""
        return self.state in {"refused", "exited"}

    @property
    def stopped(self) -> bool:
        """Nothing runs because the keeper was told to stop it, which says nothing about the engine."""
        return self.state == "exited" and self.code == "stopped"


def order(
    *,
    slot: str,
    deployment: int,
    change: ChangeFacts,
    approvals: Iterable[Approval],
    roster: Iterable[RosterEntry],
) -> bytes:
    """The order's bytes: the same rows give the same bytes, so an unchanged order is never written again."""
    return canonical.dumps(
        {
            "format": FORMAT,
            "slot": slot,
            "deployment": deployment,
            "change": {
                "id": change.id,
                "kind": change.kind,
                "subject": change.subject,
                "facts": change.facts,
                "proposer": change.proposer,
                "quorum": change.quorum,
                "digest": change.digest,
            },
            "approvals": [
                {"approver": item.approver, "key_id": item.key_id, "signature": _b64(item.signature)}
                for item in sorted(approvals, key=lambda item: (item.approver, item.key_id))
            ],
            "roster": [
                {
                    "person": item.person,
                    "key_id": item.key_id,
                    "public_key": _b64(item.public_key),
                    "mac": item.mac.hex(),
                }
                for item in sorted(roster, key=lambda item: (item.person, item.key_id))
            ],
        }
    )


def give(folder: Path, data: bytes) -> bool:
    """Put the order in place; False when that very order lies there already."""
    file = folder / ORDER
    try:
        if file.read_bytes() == data:
            return False
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
    # 0640: the keeper runs under another uid of the same group in production.
    replace_whole(file, data, mode=0o640)
    return True


def withdraw(folder: Path) -> bool:
    """Take the order away, so that the keeper empties the slot; False when there was none."""
    file = folder / ORDER
    if not file.exists():
        return False
    file.unlink(missing_ok=True)
    return True


def report(folder: Path) -> Report | None:
    """The keeper's last word, None before its first; SlotError for what no keeper of ours writes."""
    try:
        with (folder / REPORT).open("rb") as stream:
            raw = stream.read(LARGEST_REPORT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SlotError("the keeper's report cannot be read") from error
    try:
        body = json.loads(raw)
        found = Report(
            deployment=int(body["deployment"]),
            state=str(body["state"]),
            code=str(body.get("code", "")),
            message=str(body.get("message", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SlotError("the keeper's report is not a report") from error
    if found.state not in STATES:
        raise SlotError("the keeper's report names no state we know")
    return found


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
