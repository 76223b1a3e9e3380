"""Launch orders as the supervisor writes them, for the cast: alice proposes, bob and carol approve.

Everything is real but the people: a site of its own, an installed release, real signatures, a real roster MAC.
`made.facts["arguments"].append(...)`, then `made.write()`: sign again or not, as the attack would.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from provisioning import approval
from provisioning.approval import ChangeFacts
from provisioning.bundle.facts import FileFact, release_digest
from provisioning.launcher import arguments
from provisioning.site_config import Site


@dataclass
class Person:
    """One of the cast, with a signing key."""

    name: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def key_id(self) -> str:
        return approval.key_id(self.public)

    def enrolled(self, roster_key: bytes) -> dict[str, str]:
        mac = approval.roster_mac(roster_key, person=self.name, key_id=self.key_id, public_key=self.public)
        return {"person": self.name, "key_id": self.key_id, "public_key": _b64(self.public), "mac": mac.hex()}


@dataclass
class OrderMaker:
    """One order for one slot of one site."""

    site: Site
    release: str
    slot: str = "a"
    proposer: str = "alice"
    kind: str = "release.activate"
    approvers: list[Person] = field(default_factory=lambda: [Person("bob"), Person("carol")])
    facts: dict[str, Any] = field(default_factory=dict)
    order: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        files = {fact.path: {"length": fact.length, "sha256": fact.sha256} for fact in described(self.folder)}
        defaults = arguments.default(self.site, _Named(self.release, "demo"))
        self.facts = {
            "release": self.release,
            "bundle": "demo",
            "version": 1,
            "files": files,
            "engine": {
                "version": arguments.engine_version(self.site.engine.python),
                "lock": arguments.engine_lock(self.site.engine.python),
            },
            "arguments": list(defaults.arguments),
            "environment": dict(defaults.environment),
            "served_model_name": defaults.served_model_name,
            "routes": {"progress_note": defaults.served_model_name},
            "capabilities": ["chat", "completions"],
            "evaluation": {"report": ""},
            "slot_rule": "alternate",
        }
        self.sign()

    @property
    def folder(self) -> Path:
        return self.site.releases_dir / self.release

    @property
    def path(self) -> Path:
        return self.site.slots_dir / self.slot / "order.json"

    def sign(self) -> OrderMaker:
        """Propose `facts` anew and let every approver sign exactly that."""
        change = ChangeFacts(7, self.kind, self.release, self.facts, self.proposer, 2)
        roster_key = self.site.secret("roster-key")
        signatures = [
            (person, approval.sign(person.key, digest=change.digest, approver=person.name)) for person in self.approvers
        ]
        self.order = {
            "format": "isoward-launch-order-v1",
            "slot": self.slot,
            "deployment": 1,
            "change": {
                "id": change.id,
                "kind": change.kind,
                "subject": change.subject,
                "facts": json.loads(json.dumps(self.facts)),
                "proposer": change.proposer,
                "quorum": change.quorum,
                "digest": change.digest,
            },
            "approvals": [
                {"approver": person.name, "key_id": person.key_id, "signature": _b64(signature)}
                for person, signature in signatures
            ],
            "roster": [person.enrolled(roster_key) for person in self.approvers],
        }
        return self

    def data(self) -> bytes:
        return json.dumps(self.order, sort_keys=True).encode("ascii")

    def write(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(".order.new")
        partial.write_bytes(self.data())
        partial.replace(self.path)
        return self.path


@dataclass(frozen=True)
class _Named:
    digest: str
    name: str


def described(folder: Path) -> tuple[FileFact, ...]:
    """The files of a folder by length and digest."""
    paths: Iterable[Path] = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        FileFact(p.relative_to(folder).as_posix(), p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest())
        for p in paths
    )


def install(source: Path, site: Site) -> str:
    """Put a folder of files into the site's store under its digest, as an import leaves it."""
    digest = release_digest(described(source))
    target = site.releases_dir / digest
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        (target / path.name).write_bytes(path.read_bytes())
        (target / path.name).chmod(0o440)
    return digest


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
