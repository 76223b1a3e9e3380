"""What a release consists of: its files by length and SHA-256, and the one digest over them all.

Decides the digest's form. Leaves to others where the files come from and who vouches for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from provisioning import canonical

RELEASE_FORMAT = "isoward-release-v1"


@dataclass(frozen=True, order=True)
class FileFact:
    """One file, by its path inside the release."""

    path: str
    length: int
    sha256: str

    def to_dict(self) -> dict[str, str | int]:
        return {"path": self.path, "length": self.length, "sha256": self.sha256}


def release_digest(files: Iterable[FileFact]) -> str:
    """64 hex digits that change when any file is added, removed, renamed or altered."""
    listed: dict[str, dict[str, str | int]] = {}
    for fact in files:
        if fact.path in listed:
            raise ValueError(f"{fact.path} is listed twice")
        listed[fact.path] = {"length": fact.length, "sha256": fact.sha256}
    return canonical.digest({"format": RELEASE_FORMAT, "files": listed})
