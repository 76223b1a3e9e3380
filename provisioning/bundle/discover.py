"""What seems to lie on a mounted medium. Nothing here is trusted: it fills a list to choose from, no more.

Decides nothing. `receive` decides, from the signed metadata, when somebody asks for one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioning.bundle import manifest, medium, shape
from provisioning.bundle.errors import BundleError

_MOST_FOLDERS = 64


@dataclass(frozen=True)
class Found:
    """A bundle a medium claims to hold; `medium` is the folder to give to `receive`."""

    name: str
    version: int
    total_bytes: int
    medium: Path


def discover(media_root: Path) -> tuple[Found, ...]:
    """Candidates on `media_root` itself or in the folders right below it, by name."""
    found: list[Found] = []
    for folder in _candidates(media_root):
        try:
            found += _look(folder)
        except (BundleError, OSError):
            continue  # an unreadable medium offers nothing; the reason is told when somebody imports from it
    return tuple(sorted(found, key=lambda f: (f.name, -f.version, str(f.medium))))


def _candidates(media_root: Path) -> Iterator[Path]:
    try:
        below = sorted(path for path in media_root.iterdir() if path.is_dir() and not path.is_symlink())[:_MOST_FOLDERS]
    except OSError:
        return
    for folder in (media_root, *below):
        if (folder / "metadata").is_dir() and (folder / "targets").is_dir():
            yield folder


def _look(folder: Path) -> Iterator[Found]:
    with medium.opened(folder) as source:
        signed = shape.read(source.metadata("targets.json", shape.SIZE["targets"]), "targets")["signed"]
        sizes: dict[str, int] = {}
        for path, entry in signed["targets"].items():
            name = path.split("/", 1)[0]
            sizes[name] = sizes.get(name, 0) + entry["length"]
        for name, size in sizes.items():
            if medium.BUNDLE_NAME.fullmatch(name) and (folder / "targets" / name).is_dir():
                yield Found(name, _claimed_version(source, name), size, folder)


def _claimed_version(source: medium.Medium, name: str) -> int:
    with source.open(name, manifest.NAME) as descriptor, open(descriptor, "rb", closefd=False) as file:
        raw: dict[str, Any] = shape.parse(file.read(manifest.SIZE + 1), manifest.SIZE, manifest.NAME)
    return shape.whole(raw.get("version"), 1, 2**31, "the bundle's version")
