"""Whom we believe about a bundle, and how much: TUF's client workflow over bytes, without a network or a clock.

Decides: whether the metadata on a medium is signed by enough of the right keys, not older than what this box has seen,
and not expired. Leaves reading media to `medium`, the files themselves to `copying`, and keeping the state to the caller.

The rules, in the order of the TUF specification 1.0, section 5:
1. Root N+1 needs the thresholds of root N and of itself, one version at a time (5.3); nothing else moves the root.
2. One reference time for the whole run: the later of the trusted floor and the clock, so a clock set back, or a dead
   one, cannot revive what has expired. The floor rises only by what a threshold of publishers signed (`signed_at`).
3. Versions of timestamp, snapshot and targets never go down; each is bound to the next by length and SHA-256.
4. Root and targets need two distinct keys at least, whatever the root says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from provisioning.bundle import keys, shape
from provisioning.bundle.errors import BundleError
from provisioning.bundle.facts import FileFact

LEAST_THRESHOLD = 2
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True)
class TrustState:
    """What this box remembers between two imports. `bundle_versions` are floors by bundle name."""

    root: bytes
    timestamp_version: int
    snapshot_version: int
    targets_version: int
    time_floor: datetime
    bundle_versions: Mapping[str, int] = field(default_factory=dict)
    targets_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "root": self.root.decode("utf-8"),
            "timestamp_version": self.timestamp_version,
            "snapshot_version": self.snapshot_version,
            "targets_version": self.targets_version,
            "time_floor": self.time_floor.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "bundle_versions": dict(self.bundle_versions),
            "targets_sha256": self.targets_sha256,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TrustState:
        """Read a kept state; a missing or odd one means no import, never a fresh start."""
        try:
            return cls(
                root=value["root"].encode("utf-8"),
                timestamp_version=int(value["timestamp_version"]),
                snapshot_version=int(value["snapshot_version"]),
                targets_version=int(value["targets_version"]),
                time_floor=_moment(value["time_floor"]),
                bundle_versions={str(name): int(version) for name, version in value["bundle_versions"].items()},
                targets_sha256=str(value.get("targets_sha256", "")),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            raise BundleError("floor_unavailable", "the kept record of versions seen cannot be read") from None


@dataclass(frozen=True)
class Documents:
    """The metadata found on a medium, as bytes; `roots` are the ones after our own, in order.

    `same_root` is the medium's root of our own version, where it has one.
    """

    roots: tuple[bytes, ...]
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    same_root: bytes = b""


@dataclass(frozen=True)
class Catalogue:
    """Files that a threshold of publishers vouches for, by path below `targets/`."""

    files: Mapping[str, FileFact]
    trust: TrustState
    root_version: int

    def bundle(self, name: str) -> tuple[FileFact, ...]:
        """The files of one bundle, by their path inside it."""
        prefix = f"{name}/"
        inside = (
            replace(fact, path=path.removeprefix(prefix))
            for path, fact in self.files.items()
            if path.startswith(prefix)
        )
        return tuple(sorted(inside))


def initial(root: bytes) -> TrustState:
    """The state of a box that has imported nothing yet, from the root it was delivered with."""
    _trusted_root(root)
    return TrustState(root, 0, 0, 0, _EARLIEST)


def root_version(root: bytes) -> int:
    return _trusted_root(root).signed.version


def verify(documents: Documents, *, trust: TrustState, now: datetime) -> Catalogue:
    """Client workflow 5.3 to 5.6: what the medium lists, if we may believe it; the state to keep when all ends well."""
    reference = max(trust.time_floor, now)
    past = _trusted_root(trust.root)
    # More signatures under the same words are welcome; other words under the same number are not.
    if documents.same_root and _root(documents.same_root).signed != past.signed:
        raise BundleError("root_chain", f"root {past.signed.version} on the medium is not the one this box trusts")
    root, root_bytes = _walk_root_chain(past, trust.root, documents.roots)
    # 5.3.10: only the last root of the chain has to be current.
    if root.signed.is_expired(reference):
        raise BundleError("root_expired", f"root {root.signed.version} expired on {root.signed.expires:%Y-%m-%d}")

    timestamp = _member(documents.timestamp, Timestamp, root.signed, past.signed, reference)
    _not_older("timestamp", timestamp.version, trust.timestamp_version)
    snapshot = _bound(documents.snapshot, timestamp.snapshot_meta, Snapshot, root.signed, past.signed, reference)
    _not_older("snapshot", snapshot.version, trust.snapshot_version)
    targets = _bound(documents.targets, snapshot.meta["targets.json"], Targets, root.signed, past.signed, reference)
    _not_older("targets", targets.version, trust.targets_version)
    digest = hashlib.sha256(documents.targets).hexdigest()
    if targets.version == trust.targets_version and trust.targets_sha256 not in ("", digest):
        raise BundleError("catalogue_fork", f"catalogue {targets.version} was seen before with other content")

    files = {path: FileFact(path, file.length, file.hashes["sha256"]) for path, file in targets.targets.items()}
    listed = {path.split("/", 1)[0] for path in files}
    for name in sorted(trust.bundle_versions):
        if name not in listed:
            raise BundleError("catalogue_removed", f"the catalogue no longer lists {name}")
    state = TrustState(
        root=root_bytes,
        timestamp_version=timestamp.version,
        snapshot_version=snapshot.version,
        targets_version=targets.version,
        time_floor=max(trust.time_floor, _moment(targets.unrecognized_fields["signed_at"])),
        bundle_versions=dict(trust.bundle_versions),
        targets_sha256=digest,
    )
    return Catalogue(files=files, trust=state, root_version=root.signed.version)


def _trusted_root(data: bytes) -> Metadata[Root]:
    """The root we already hold: it must sign itself, and hold only usable keys."""
    try:
        root = _root(data)
        _check_threshold(root, root.signed, "root")
    except BundleError as error:
        raise BundleError("trust_store_invalid", f"the trusted root is not usable: {error.message}") from None
    return root


def _root(data: bytes) -> Metadata[Root]:
    document = shape.read(data, "root")
    # Our own key class, before python-tuf's can load what it would accept.
    publishers = {
        identifier: keys.PublisherKey.from_dict(identifier, key)
        for identifier, key in document["signed"]["keys"].items()
    }
    root: Metadata[Root] = _metadata(document)
    root.signed.keys = dict(publishers)
    for name in ("root", "targets"):
        if root.signed.roles[name].threshold < LEAST_THRESHOLD:
            raise BundleError("root_chain", f"root {root.signed.version} lets one key sign for {name}")
    return root


def _walk_root_chain(
    trusted: Metadata[Root], trusted_bytes: bytes, chain: tuple[bytes, ...]
) -> tuple[Metadata[Root], bytes]:
    current, current_bytes = trusted, trusted_bytes
    for data in chain:
        fresh = _root(data)
        expected = current.signed.version + 1
        if fresh.signed.version != expected:
            raise BundleError(
                "root_chain", f"root {expected} is expected, the medium has {fresh.signed.version} in its place"
            )
        for signer, whose in ((current.signed, "the root before it"), (fresh.signed, "itself")):
            try:
                _check_threshold(fresh, signer, "root")
            except BundleError:
                raise BundleError("root_chain", f"root {expected} is not signed by enough keys of {whose}") from None
        current, current_bytes = fresh, data
    return current, current_bytes


def _member(data: bytes, kind: type[S], root: Root, past: Root, reference: datetime) -> S:
    role = kind.type
    document: Metadata[S] = _metadata(shape.read(data, role))
    try:
        _check_threshold(document, root, role)
    except BundleError:
        raise _why_unsigned(document, root, past, role) from None
    if document.signed.is_expired(reference):
        raise BundleError("metadata_expired", f"{role} expired on {document.signed.expires:%Y-%m-%d}")
    return document.signed


def _bound(data: bytes, meta: MetaFile, kind: type[S], root: Root, past: Root, reference: datetime) -> S:
    """A member that the document before it names by version, length and digest."""
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError:
        raise BundleError("digest_mismatch", f"{kind.type}.json is not the one that was signed for") from None
    signed = _member(data, kind, root, past, reference)
    if signed.version != meta.version:
        raise BundleError("digest_mismatch", f"{kind.type}.json has another version than the one signed for")
    return signed


def _check_threshold(document: Metadata[Any], root: Root, role: str) -> None:
    result = root.get_verification_result(role, document.signed_bytes, document.signatures)
    # Keys are counted by their bytes, never by the id somebody gave them.
    distinct = {key.raw for key in result.signed.values() if isinstance(key, keys.PublisherKey)}
    if len(distinct) < result.threshold:
        raise BundleError("signature_threshold", f"{role} has {len(distinct)} of {result.threshold} signatures")


def _why_unsigned(document: Metadata[Any], root: Root, past: Root, role: str) -> BundleError:
    """The same refusal, said more exactly when a known key signed what it may not."""
    payload = document.signed_bytes
    allowed = root.roles[role].keyids
    for identifier, signature in document.signatures.items():
        for known, code, text in (
            (root, "key_role", f"{role} is signed by a key that may not sign it"),
            (past, "key_revoked", f"{role} is signed by a key that was withdrawn"),
        ):
            key = known.keys.get(identifier)
            if (
                identifier not in allowed
                and isinstance(key, keys.PublisherKey)
                and keys.verifies(key.raw, signature.signature, payload)
            ):
                return BundleError(code, text)
    return BundleError("signature_threshold", f"{role} is not signed by enough publishers")


def _not_older(role: str, version: int, floor: int) -> None:
    if version < floor:
        raise BundleError("catalogue_rollback", f"{role} {version} is older than {floor}, seen before")


def _metadata(document: dict[str, Any]) -> Metadata[Any]:
    try:
        return Metadata.from_dict(document)
    except (KeyError, TypeError, ValueError):
        raise BundleError("manifest_type", "signed metadata that TUF cannot read") from None


def _moment(value: str) -> datetime:
    return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
