"""From quarantine into the store, in one step that either happened or did not.

Decides the form of the store: one folder per release, named by its digest, files 0440. Leaves to `receive` whether the
content deserves it, and to the launcher to verify every byte again before use.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from provisioning.bundle.copying import INSTALLED_MODE
from provisioning.bundle.errors import BundleError

_DIGEST = re.compile(r"[0-9a-f]{64}")


def install(quarantine: Path, store: Path, digest: str) -> Path:
    """Rename the verified folder to its digest; both lie on one file system, so there is no half-installed release."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError("a release is named by its 64 hex digit digest")
    store.mkdir(mode=0o750, parents=True, exist_ok=True)
    target = store / digest
    if target.exists():
        raise BundleError("already_installed", f"release {digest[:12]} is already on this box")
    for path in sorted(quarantine.rglob("*")):
        if path.is_file() and not path.is_symlink():
            path.chmod(INSTALLED_MODE)
            _sync(path)
        elif path.is_dir() and not path.is_symlink():
            path.chmod(0o750)
            _sync(path)
        else:
            raise BundleError("file_not_regular", "quarantine holds something that is not a plain file")
    quarantine.chmod(0o750)
    _sync(quarantine)
    quarantine.rename(target)
    _sync(store)
    _sync(quarantine.parent)
    return target


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
