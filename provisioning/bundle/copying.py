"""One file from the medium into quarantine: read once, hashed while it is written, never read from the medium again.

Decides: whether the bytes that arrived are the bytes signed for. Leaves to `medium` how the file was opened, and to
`content` what the bytes mean. What is checked later is our copy, so a medium that answers a second read differently
(SECURITY.md T07) gains nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from provisioning.bundle.errors import BundleError
from provisioning.bundle.facts import FileFact

BLOCK = 1024 * 1024
INSTALLED_MODE = 0o440
_RESERVE = 64 * 1024 * 1024


def check_room(folder: Path, needed: int) -> None:
    """Refuse before the first byte when it would not fit."""
    facts = os.statvfs(folder)
    if needed + _RESERVE > facts.f_bavail * facts.f_frsize:
        raise BundleError("quota", f"{needed} bytes do not fit on the disk for releases")


def is_here(target: Path, fact: FileFact) -> bool:
    """Whether an interrupted import already copied this file whole: hashed again from our own disk, not believed."""
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        return (
            os.fstat(descriptor).st_size == fact.length
            and hashlib.file_digest(file, "sha256").hexdigest() == fact.sha256
        )


def copy(
    source: int, target: Path, fact: FileFact, *, advance: Callable[[int], None], cancelled: Callable[[], bool]
) -> None:
    """Copy one open file to `target`; on return it is whole, durable, 0440 and has the signed digest."""
    if os.fstat(source).st_size != fact.length:
        raise BundleError("size_mismatch", f"{fact.path} is not as long as signed for")
    target.unlink(missing_ok=True)
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _transfer(source, out, fact, advance, cancelled)
        os.fchmod(out, INSTALLED_MODE)
        os.fsync(out)
    finally:
        os.close(out)


def write(target: Path, data: bytes, fact: FileFact) -> None:
    """The same for bytes that were read, and checked, before: the manifest is read once as well."""
    check_bytes(data, fact)
    target.unlink(missing_ok=True)
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(out, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(out, INSTALLED_MODE)
        os.fsync(out)


def check_bytes(data: bytes, fact: FileFact) -> None:
    if len(data) != fact.length:
        raise BundleError("size_mismatch", f"{fact.path} is not as long as signed for")
    if hashlib.sha256(data).hexdigest() != fact.sha256:
        raise BundleError("digest_mismatch", f"{fact.path} is not the file that was signed for")


def _transfer(
    source: int, out: int, fact: FileFact, advance: Callable[[int], None], cancelled: Callable[[], bool]
) -> None:
    digest = hashlib.sha256()
    left = fact.length
    if left:
        _on_our_disk(lambda: os.posix_fallocate(out, 0, left))
    while True:
        if cancelled():
            raise BundleError("cancelled", "the import was cancelled")
        # One byte more than is left: a file that grows while it is copied shows itself.
        block = _from_medium(source, min(BLOCK, left + 1), fact)
        if not block:
            break
        if len(block) > left:
            raise BundleError("size_mismatch", f"{fact.path} grew while it was copied")
        digest.update(block)
        _on_our_disk(partial(_write_all, out, memoryview(block)))
        left -= len(block)
        advance(len(block))
    if left:
        raise BundleError("size_mismatch", f"{fact.path} ended early")
    if digest.hexdigest() != fact.sha256:
        raise BundleError("digest_mismatch", f"{fact.path} is not the file that was signed for")


def _from_medium(source: int, size: int, fact: FileFact) -> bytes:
    try:
        return os.read(source, size)
    except OSError:
        raise BundleError("media_read_error", f"{fact.path} cannot be read from the medium") from None


def _on_our_disk(act: Callable[[], None]) -> None:
    try:
        act()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BundleError("storage_full", "the disk for releases is full") from None
        raise


def _write_all(out: int, view: memoryview) -> None:
    while view:
        view = view[os.write(out, view) :]
