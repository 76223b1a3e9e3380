"""What an approval is, and when a change counts as approved.

One file, used by the console when people sign and by the launcher before it starts a process, so that both ask the
same question of the same bytes. It decides whether enough distinct people signed this very change. It leaves to
others who may hold a key, and what the change does.

The rules:
1. The digest covers the change's id, kind, subject, facts, proposer and quorum: nothing can move after a signature.
2. A signature names its approver, so it cannot be re-used under another name.
3. A key counts only with a roster MAC made outside the database: an inserted row is not a person (threats T35, T36).
4. The proposer never counts; a person counts once; a key counts once; two is the least quorum there is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from provisioning import canonical

LEAST_QUORUM = 2
"""Not a setting: a box whose quorum can be set to one is a box one person can command (SECURITY.md 6.8)."""

_SIGNING_CONTEXT = b"isoward-approval-v1\n"
_ROSTER_CONTEXT = b"isoward-roster-v1\n"


class ApprovalError(Exception):
    """The change is not approved; `code` is stable, the text says what is missing."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ChangeFacts:
    """Everything a signature covers."""

    id: int
    kind: str
    subject: str
    facts: Mapping[str, Any]
    proposer: str
    quorum: int
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        value = {
            "format": "isoward-change-v1",
            "id": self.id,
            "kind": self.kind,
            "subject": self.subject,
            "facts": self.facts,
            "proposer": self.proposer,
            "quorum": self.quorum,
        }
        object.__setattr__(self, "digest", canonical.digest(value))


@dataclass(frozen=True)
class Approval:
    """One person's signature over the change's digest."""

    approver: str
    key_id: str
    signature: bytes


@dataclass(frozen=True)
class RosterEntry:
    """A person's signing key, vouched for by a MAC whose key the database never sees."""

    person: str
    key_id: str
    public_key: bytes
    mac: bytes


def key_id(public_key: bytes) -> str:
    """The first 16 hex digits of SHA-256 over the raw 32-byte public key."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def sign(private_key: Ed25519PrivateKey, *, digest: str, approver: str) -> bytes:
    """64 bytes, RFC 8032 Ed25519, over the digest and the approver's name under our own context."""
    return private_key.sign(_message(digest, approver))


def roster_mac(roster_key: bytes, *, person: str, key_id: str, public_key: bytes) -> bytes:
    """HMAC-SHA256 that binds a person to a public key; 32 bytes."""
    body = canonical.dumps({"person": person, "key_id": key_id, "public_key": base64.b64encode(public_key).decode()})
    return hmac.new(roster_key, _ROSTER_CONTEXT + body, hashlib.sha256).digest()


def check(
    change: ChangeFacts, *, approvals: Iterable[Approval], roster: Iterable[RosterEntry], roster_key: bytes
) -> tuple[str, ...]:
    """The distinct people whose signatures carry this change, or ApprovalError.

    Every approval presented must be good: one forged row among good ones means somebody wrote to the ledger, and the
    answer to that is to stop, not to count the rest.
    """
    if change.quorum < LEAST_QUORUM:
        raise ApprovalError(
            "approval_quorum", f"the change asks for {change.quorum} approvals; the least is {LEAST_QUORUM}"
        )
    keys = {(entry.person, entry.key_id): entry for entry in roster}
    people: dict[str, str] = {}
    for approval in approvals:
        _check_one(change, approval, keys.get((approval.approver, approval.key_id)), roster_key)
        if approval.approver in people or approval.key_id in people.values():
            raise ApprovalError("approval_repeated", f"{approval.approver} appears twice among the approvals")
        people[approval.approver] = approval.key_id
    if len(people) < change.quorum:
        raise ApprovalError(
            "approval_quorum", f"{len(people)} of {change.quorum} approvals; nothing starts before the last"
        )
    return tuple(sorted(people))


def _check_one(change: ChangeFacts, approval: Approval, entry: RosterEntry | None, roster_key: bytes) -> None:
    who = approval.approver
    if who == change.proposer:
        raise ApprovalError("approval_by_proposer", f"{who} proposed this change and cannot approve it")
    if entry is None:
        raise ApprovalError("approval_key_unknown", f"{who} has no signing key {approval.key_id}")
    expected = roster_mac(roster_key, person=who, key_id=entry.key_id, public_key=entry.public_key)
    if not hmac.compare_digest(expected, entry.mac) or entry.key_id != key_id(entry.public_key):
        raise ApprovalError("roster_forged", f"the signing key listed for {who} was not enrolled on this box")
    try:
        Ed25519PublicKey.from_public_bytes(entry.public_key).verify(approval.signature, _message(change.digest, who))
    except (InvalidSignature, ValueError) as error:
        raise ApprovalError("approval_signature", f"the approval by {who} does not match this change") from error


def _message(digest: str, approver: str) -> bytes:
    return _SIGNING_CONTEXT + canonical.dumps({"digest": digest, "approver": approver})
