"""Reading a removable medium that may have been prepared against us.

Decides: which names and kinds of file we touch, and how many. Leaves what they contain to others, and reads each byte once.

- Every step is relative to an open directory and follows no link; opening never blocks, so a FIFO cannot hold us.
- Only plain files with one name, in plain ASCII; a bundle folder holds exactly what was signed for, nothing more.
- Litter of desktop systems is tolerated by exact name at the root of the medium, and nowhere else.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from provisioning.bundle.errors import BundleError
from provisioning.bundle.facts import FileFact
from provisioning.bundle.shape import SIZE
from provisioning.bundle.trust import Documents

MOST_FILES = 512
MOST_LEVELS = 4
MOST_ROOTS = 64
BUNDLE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LITTER = frozenset({
    ".DS_Store", ".Spotlight-V100", ".Trashes", ".fseventsd", ".git", ".gitattributes", ".gitignore",
    "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "__pycache__", "desktop.ini", "lost+found",
})  # fmt: skip
_METADATA_NAME = re.compile(r"(?:[1-9][0-9]{0,4}\.root|timestamp|snapshot|targets)\.json")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass
class Medium:
    """An open medium; all reads go through its directory descriptor."""

    root: int
    _seen: int = field(default=0)

    def documents(self, trusted_version: int) -> Documents:
        """The metadata, each document read once and bounded by its kind."""
        with _folder(self.root, "metadata") as folder:
            names = {entry.name for entry in self._entries(folder, "metadata")}
            for name in sorted(names):
                if not _METADATA_NAME.fullmatch(name):
                    raise BundleError("file_unlisted", "the metadata folder holds a file that does not belong there")
            versions = sorted(int(name.split(".", 1)[0]) for name in names if name.endswith(".root.json"))
            later = [version for version in versions if version > trusted_version]
            if later != list(range(trusted_version + 1, trusted_version + 1 + len(later))) or len(later) > MOST_ROOTS:
                raise BundleError("root_chain", f"the medium has no unbroken chain of roots after {trusted_version}")
            ours = f"{trusted_version}.root.json"
            return Documents(
                same_root=_read(folder, ours, SIZE["root"]) if ours in names else b"",
                roots=tuple(_read(folder, f"{version}.root.json", SIZE["root"]) for version in later),
                timestamp=_read(folder, "timestamp.json", SIZE["timestamp"]),
                snapshot=_read(folder, "snapshot.json", SIZE["snapshot"]),
                targets=_read(folder, "targets.json", SIZE["targets"]),
            )

    def metadata(self, name: str, limit: int) -> bytes:
        """One document of the metadata folder, bounded; for looking, not for trusting."""
        with _folder(self.root, "metadata") as folder:
            return _read(folder, name, limit)

    def check_tree(self, bundle: str, files: Iterable[FileFact]) -> None:
        """The bundle's folder holds exactly `files`, each plain and of its length; names only the first bad one."""
        self._check_root()
        listed = {fact.path: fact for fact in files}
        found: set[str] = set()
        with _folder(self.root, "targets") as targets, _folder(targets, bundle) as folder:
            for path, facts in self._walk(folder, "", MOST_LEVELS):
                if path not in listed:
                    raise BundleError("file_unlisted", f"{bundle}/{path} is not in the signed catalogue")
                if facts.st_size != listed[path].length:
                    raise BundleError("size_mismatch", f"{bundle}/{path} is not as long as signed for")
                found.add(path)
        for path in sorted(set(listed) - found):
            raise BundleError("file_missing", f"{bundle}/{path} is signed for but not on the medium")

    @contextmanager
    def open(self, bundle: str, path: str) -> Iterator[int]:
        """A descriptor on one listed file, checked again after opening: the tree may have changed since the walk."""
        *above, name = path.split("/")
        folders = ["targets", bundle, *above]
        with _path(self.root, folders) as folder:
            descriptor = _open_plain(folder, name, f"{bundle}/{path}")
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def _check_root(self) -> None:
        for entry in self._entries(self.root, "the medium"):
            if entry.name not in ("metadata", "targets") and entry.name not in _LITTER:
                raise BundleError("file_unlisted", "the medium holds something besides metadata and targets")

    def _entries(self, folder: int, where: str) -> list[os.DirEntry[str]]:
        """A folder's entries in order; stops counting at the limit instead of listing a million names."""
        entries = []
        with os.scandir(folder) as scan:
            for entry in scan:
                self._seen += 1
                if self._seen > MOST_FILES:
                    raise BundleError("too_many_files", f"more than {MOST_FILES} files and folders")
                entries.append(entry)
        lowered: set[str] = set()
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.lower() in lowered:
                raise BundleError("name_collision", f"{where} holds two names that differ only in case")
            lowered.add(entry.name.lower())
        return sorted(entries, key=lambda e: e.name)

    def _walk(self, folder: int, prefix: str, levels: int) -> Iterator[tuple[str, os.stat_result]]:
        where = prefix or "the bundle"
        for entry in self._entries(folder, where):
            if entry.name in _LITTER:
                raise BundleError("file_unlisted", f"{where} holds {entry.name}")
            _check_name(entry.name, where)
            facts = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
            path = f"{prefix}{entry.name}"
            if stat.S_ISDIR(facts.st_mode):
                if levels <= 1:
                    raise BundleError("bad_name", f"{path} lies too deep")
                with _folder(folder, entry.name) as inner:
                    yield from self._walk(inner, f"{path}/", levels - 1)
                continue
            _check_plain(facts, path)
            yield path, facts


@contextmanager
def opened(path: Path) -> Iterator[Medium]:
    """The medium mounted at `path`; any read error on it is `media_unreadable`."""
    try:
        root = os.open(path, _FOLDER_FLAGS)
    except OSError:
        raise BundleError("media_unreadable", "the medium cannot be opened") from None
    try:
        yield Medium(root)
    finally:
        os.close(root)


def _check_name(name: str, where: str) -> None:
    # Undecodable bytes arrive as lone surrogates and fail the pattern like every other odd character.
    if not _PLAIN_NAME.fullmatch(name) or name.endswith("."):
        raise BundleError("bad_name", f"{where} holds a name that is not plain ASCII")


def _check_plain(facts: os.stat_result, where: str) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise BundleError("file_not_regular", f"{where} is not a regular file")
    if facts.st_nlink != 1:
        raise BundleError("file_linked", f"{where} has more than one name")


@contextmanager
def _folder(parent: int, name: str) -> Iterator[int]:
    try:
        descriptor = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        raise BundleError("file_missing", f"the medium has no {name} folder") from None
    except NotADirectoryError:
        raise BundleError("file_not_regular", f"{name} is not a folder") from None
    except OSError as error:
        # ELOOP: a link where a folder should be.
        code = "file_not_regular" if error.errno == 40 else "media_unreadable"
        raise BundleError(code, f"{name} cannot be opened") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _path(parent: int, folders: list[str]) -> Iterator[int]:
    if not folders:
        yield parent
        return
    with _folder(parent, folders[0]) as inner, _path(inner, folders[1:]) as last:
        yield last


def _open_plain(folder: int, name: str, where: str) -> int:
    # lstat first: opening a device node can have effects; opening a FIFO without O_NONBLOCK would hang.
    try:
        _check_plain(os.stat(name, dir_fd=folder, follow_symlinks=False), where)
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except FileNotFoundError:
        raise BundleError("file_missing", f"{where} is not on the medium") from None
    except OSError:
        raise BundleError("media_read_error", f"{where} cannot be opened") from None
    try:
        _check_plain(os.fstat(descriptor), where)
    except BundleError:
        os.close(descriptor)
        raise
    return descriptor


def _read(folder: int, name: str, limit: int) -> bytes:
    """At most limit + 1 bytes, so that 64 MB of metadata costs no more than the limit."""
    descriptor = _open_plain(folder, name, name)
    try:
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(limit + 1)
    except OSError:
        raise BundleError("media_read_error", f"{name} cannot be read") from None
    if len(data) > limit:
        raise BundleError("manifest_size", f"{name} is longer than {limit} bytes")
    return data
