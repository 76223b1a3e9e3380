"""Make the site's own secrets, once.

Decides: what each secret is made of and that it is never overwritten.
Leaves to others: reading them (site_config.Site.secret) and rotation (appliance.keyring).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from provisioning.site_config import SECRET_SIZES, Site, SiteError


def create_missing(site: Site) -> tuple[str, ...]:
    """Create the secrets that do not exist yet; return their names."""
    site.secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    created = tuple(name for name in SECRET_SIZES if _create(site.secrets_dir / name, name))
    for name in SECRET_SIZES:
        site.secret(name)  # an old one that is wrong must be said now, not by the first process that needs it
    return created


def _create(path: Path, name: str) -> bool:
    if path.is_symlink() or path.exists():
        return False
    # Written beside and linked into place: a crash must not leave half a key under the real name.
    partial = path.with_name(f".{name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_make(name))
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)
    except FileExistsError:
        return False  # another process made it first; theirs stands
    finally:
        partial.unlink()
    return True


def _make(name: str) -> bytes:
    if name in ("django-secret-key", "engine-api-key"):
        return secrets.token_hex(32).encode("ascii")
    if name == "sealer-key":
        return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if SECRET_SIZES[name] == 32:
        return secrets.token_bytes(32)
    raise SiteError(f"site_keys does not know how to make {name}")
