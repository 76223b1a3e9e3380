"""Reading a secret from a file that nobody else could have read."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class PrivateFileError(Exception):
    """The file is not one that only its owner can read. The message says what it must be."""


def read(path: Path, *, most: int) -> bytes:
    """Its bytes, one more than `most` at the most; PrivateFileError when others could have read it, or it is no file."""
    try:
        # O_NOFOLLOW: a link would let whoever can write the directory point at another file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise PrivateFileError(f"cannot read {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o077:
            raise PrivateFileError(f"{path} must be a plain file with mode 0600 or 0400")
        if facts.st_uid not in (0, os.geteuid()):
            raise PrivateFileError(f"{path} must belong to this process's user or to root")
        return file.read(most + 1)
