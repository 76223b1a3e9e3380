"""The build side: a publisher's repository, made and signed offline by people who each hold one key.

Decides how a repository is laid out and in which order it is signed: root and targets by two people, then snapshot and
timestamp, which name what the two signed. Leaves whether anybody should believe it to `trust`, on the appliance.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Key, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from provisioning.bundle import keys
from provisioning.bundle.errors import BundleError
from provisioning.bundle.trust import LEAST_THRESHOLD

TEN_YEARS = timedelta(days=3652)
_SERIALIZER = JSONSerializer(compact=False)


class Publisher:
    """One person's key. The private part never leaves this object except into a file of mode 0600."""

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self.name = name
        self.private = private
        raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.key = keys.PublisherKey(raw)

    @classmethod
    def generate(cls, name: str) -> Publisher:
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, passphrase: bytes | None) -> Publisher:
        private = serialization.load_pem_private_key(path.read_bytes(), passphrase)
        if not isinstance(private, Ed25519PrivateKey):
            raise BundleError("trust_store_invalid", f"{path} does not hold an Ed25519 key")
        return cls(path.stem, private)

    def save(self, folder: Path, passphrase: bytes | None) -> Path:
        """Write `<name>.pem`, encrypted when there is a passphrase, and `<name>.pub` beside it."""
        sealed: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            sealed = serialization.BestAvailableEncryption(passphrase)
        pem = self.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
        path = folder / f"{self.name}.pem"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        (folder / f"{self.name}.pub").write_text(self.key.raw.hex() + "\n", encoding="ascii")
        return path

    @property
    def signer(self) -> CryptoSigner:
        return CryptoSigner(self.private)


def load_public(path: Path) -> keys.PublisherKey:
    return keys.PublisherKey(bytes.fromhex(path.read_text(encoding="ascii").strip()))


def new_root(publishers: Sequence[keys.PublisherKey], *, expires: datetime, version: int = 1) -> Metadata[Root]:
    """A root whose every role is held by these keys; two must sign root and targets, one snapshot and timestamp."""
    root = Root(version=version, expires=expires, consistent_snapshot=False)
    for role in ("root", "targets", "snapshot", "timestamp"):
        for key in publishers:
            root.add_key(key, role)
        root.roles[role].threshold = LEAST_THRESHOLD if role in ("root", "targets") else 1
    return Metadata(root)


class Repository:
    """A publisher's folder in the layout of a medium: `metadata/` and `targets/<bundle>/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def _metadata(self) -> Path:
        return self.folder / "metadata"

    def create(self, root: Metadata[Root]) -> None:
        self._metadata.mkdir(parents=True)
        (self.folder / "targets").mkdir()
        self._write(f"{root.signed.version}.root", root)

    def root(self) -> Metadata[Root]:
        newest = max(self._metadata.glob("*.root.json"), key=lambda path: int(path.name.split(".", 1)[0]))
        return Metadata[Root].from_file(str(newest))

    def add(self, bundle: str, source: Path, *, now: datetime, expires: datetime) -> None:
        """Copy a bundle's files in and list them in a new, still unsigned catalogue."""
        target = self.folder / "targets" / bundle
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(source, target)
        for path in target.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self.list_targets(now=now, expires=expires, bundles={bundle})

    def list_targets(self, *, now: datetime, expires: datetime, bundles: set[str]) -> None:
        """Describe the files of `bundles` anew; other bundles stay listed as they were."""
        old = self._read("targets", Targets)
        files: dict[str, TargetFile] = {}
        if old is not None:
            files = {path: file for path, file in old.signed.targets.items() if path.split("/", 1)[0] not in bundles}
        for bundle in sorted(bundles):
            for path in sorted((self.folder / "targets" / bundle).rglob("*")):
                if path.is_file():
                    name = path.relative_to(self.folder / "targets").as_posix()
                    files[name] = TargetFile.from_file(name, str(path), ["sha256"])
        version = old.signed.version + 1 if old else 1
        extra = {"signed_at": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
        self._write("targets", Metadata(Targets(version, expires=expires, targets=files, unrecognized_fields=extra)))

    def sign(self, publisher: Publisher) -> list[str]:
        """Add this person's signature wherever it is due; says which documents were signed.

        Snapshot and timestamp name the signed targets by digest, so they are made when targets has its last signature.
        """
        signed: list[str] = []
        root = self.root()
        if self._add_signature(root, publisher, root.signed, "root"):
            self._write(f"{root.signed.version}.root", root)
            signed.append("root")
        targets = self._read("targets", Targets)
        if targets is None:
            return signed
        if self._add_signature(targets, publisher, root.signed, "targets"):
            self._write("targets", targets)
            signed.append("targets")
        if root.signed.get_verification_result("targets", targets.signed_bytes, targets.signatures):
            self._bind(publisher, targets.signed.expires, root.signed)
            signed += ["snapshot", "timestamp"]
        return signed

    def _bind(self, publisher: Publisher, expires: datetime, root: Root) -> None:
        snapshot = Snapshot(self._next("snapshot", Snapshot), expires=expires)
        snapshot.meta = {"targets.json": self._described("targets", Targets)}
        self._sign_new("snapshot", Metadata(snapshot), publisher, root)
        timestamp = Timestamp(self._next("timestamp", Timestamp), expires=expires)
        timestamp.snapshot_meta = self._described("snapshot", Snapshot)
        self._sign_new("timestamp", Metadata(timestamp), publisher, root)

    def _sign_new(self, name: str, document: Metadata[Any], publisher: Publisher, root: Root) -> None:
        if not self._add_signature(document, publisher, root, name):
            raise BundleError("key_role", f"{publisher.name} may not sign {name}")
        self._write(name, document)

    def _add_signature(self, document: Metadata[Any], publisher: Publisher, root: Root, role: str) -> bool:
        if publisher.key.keyid not in root.roles[role].keyids or publisher.key.keyid in document.signatures:
            return False
        document.sign(publisher.signer, append=True)
        return True

    def _next(self, name: str, kind: type[Any]) -> int:
        old = self._read(name, kind)
        return old.signed.version + 1 if old else 1

    def _described(self, name: str, kind: type[Any]) -> MetaFile:
        data = (self._metadata / f"{name}.json").read_bytes()
        document = self._read(name, kind)
        if document is None:
            raise RuntimeError(f"{name} is described before it is written")
        return MetaFile(document.signed.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    def _read(self, name: str, kind: type[Any]) -> Metadata[Any] | None:
        path = self._metadata / f"{name}.json"
        if not path.is_file():
            return None
        document: Metadata[Any] = Metadata.from_file(str(path))
        if not isinstance(document.signed, kind):
            raise RuntimeError(f"{path} is not what its name says")
        return document

    def _write(self, name: str, document: Metadata[Any]) -> None:
        (self._metadata / f"{name}.json").write_bytes(document.to_bytes(_SERIALIZER))


def pack_once(source: Path, out: Path, *, bundle: str, lifetime: timedelta = TEN_YEARS) -> bytes:
    """A whole repository for one bundle, signed by two throwaway keys that exist only in this call; returns the root.

    For the evaluation bundle: its keys protect nobody afterwards, because nobody has them.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    publishers = [Publisher.generate("publisher-1"), Publisher.generate("publisher-2")]
    if out.exists():
        shutil.rmtree(out)
    repository = Repository(out)
    repository.create(new_root([publisher.key for publisher in publishers], expires=now + lifetime))
    repository.add(bundle, source, now=now, expires=now + lifetime)
    for publisher in publishers:
        repository.sign(publisher)
    return (out / "metadata" / "1.root.json").read_bytes()


def key_of(key: Key) -> bytes:
    """The raw bytes of a key as python-tuf read it."""
    return bytes.fromhex(key.keyval["public"])
