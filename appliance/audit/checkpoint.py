"""A signed tree head in C2SP form (c2sp.org/tlog-checkpoint and c2sp.org/signed-note).

    isoward/<site>
    <size>
    <base64 root>

    — isoward/<site> <base64(4-byte key id || Ed25519 signature)>

Signing is the sealer's alone; anybody with the public key can verify.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.audit.errors import NoteError

_ED25519 = b"\x01"
_MARK = "— "


@dataclass(frozen=True)
class Checkpoint:
    """How many records there are, and the one hash that stands for all of them."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The signed text."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def origin(site_serial: str) -> str:
    """The log's name: one per box."""
    return f"isoward/{site_serial}"


def key_hash(name: str, public: Ed25519PublicKey) -> bytes:
    """signed-note: the first four bytes of SHA-256(name || 0x0A || type || key)."""
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + raw).digest()[:4]


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The note as text."""
    signature = key_hash(checkpoint.origin, key.public_key()) + key.sign(checkpoint.body.encode())
    return f"{checkpoint.body}\n{_MARK}{checkpoint.origin} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, public: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint in a note that this key signed; NoteError otherwise.

    Extension lines are refused: nothing of ours writes them, so a note that has one is not ours.
    """
    try:
        body, signatures = note.split("\n\n", 1)
        name, size, root = body.split("\n")
        checkpoint = Checkpoint(name, int(size), base64.b64decode(root, validate=True))
    except ValueError as error:
        raise NoteError("the note is not a checkpoint") from error
    if checkpoint.body != body + "\n" or not size.isascii() or len(checkpoint.root) != hashlib.sha256().digest_size:
        raise NoteError("the note is not in canonical form")
    expected = key_hash(name, public)
    for line in signatures.splitlines():
        signer, _, text = line.removeprefix(_MARK).rpartition(" ")
        if not line.startswith(_MARK) or signer != name:
            continue
        try:
            raw = base64.b64decode(text, validate=True)
            if raw[:4] == expected:
                public.verify(raw[4:], checkpoint.body.encode())
                return checkpoint
        except (ValueError, InvalidSignature) as error:
            raise NoteError("the signature does not match the note") from error
    raise NoteError("no signature by the sealer's key")
