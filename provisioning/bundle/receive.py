"""Flow A, steps 1 to 3, in one function that reads as the sentence: trust the list, copy once, look inside.

Decides the order: nothing is copied before the metadata is believed, nothing is looked into before it is copied, and
nothing stays behind when the answer is no. Leaves the release's row, and every state kept, to the caller.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from provisioning.bundle import content, copying, manifest, medium, trust
from provisioning.bundle.errors import BundleError
from provisioning.bundle.facts import FileFact, release_digest
from provisioning.bundle.manifest import Manifest
from provisioning.bundle.trust import Catalogue, TrustState
from provisioning.bundle.verdict import Check, Verdict

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Received:
    """A bundle that is whole, genuine and now on our own disk; `verdict` may still hold it for a person's eye."""

    digest: str
    manifest: Manifest
    files: tuple[FileFact, ...]
    verdict: Verdict
    trust: TrustState


def receive(
    medium_root: Path,
    *,
    bundle: str,
    quarantine: Path,
    trust: TrustState,  # noqa: A002, RUF100 - the word of the contract
    now: datetime,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Received:
    """Take one bundle from a mounted medium into `quarantine`, or raise BundleError and leave no trace of it."""
    try:
        return _receive(medium_root, bundle, quarantine, trust, now, progress, cancelled)
    except BundleError:
        shutil.rmtree(quarantine, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(quarantine, ignore_errors=True)
        raise BundleError("media_unreadable", f"reading the medium failed: {error.strerror}") from None


def _receive(
    medium_root: Path,
    bundle: str,
    quarantine: Path,
    state: TrustState,
    now: datetime,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Received:
    if not medium.BUNDLE_NAME.fullmatch(bundle):
        raise BundleError("bad_name", "that is not a bundle's name")
    with medium.opened(medium_root) as source:
        documents = source.documents(trust.root_version(state.root))
        catalogue = trust.verify(documents, trust=state, now=now)
        files = _listed(catalogue, bundle)
        source.check_tree(bundle, files)
        described, text = _manifest(source, bundle, files, state)
        copying.check_room(_fresh(quarantine, files), sum(fact.length for fact in files))
        _copy(source, bundle, quarantine, files, text, progress, cancelled)
    verdict = content.check(quarantine, files, described)
    floors = dict(catalogue.trust.bundle_versions) | {described.name: described.version}
    return Received(
        digest=release_digest(files),
        manifest=described,
        files=files,
        verdict=replace(verdict, checks=(*_told(catalogue, files), *verdict.checks)),
        trust=replace(catalogue.trust, bundle_versions=floors),
    )


def _listed(catalogue: Catalogue, bundle: str) -> tuple[FileFact, ...]:
    files = catalogue.bundle(bundle)
    if not files:
        raise BundleError("bundle_unknown", f"the signed catalogue lists no {bundle}")
    if len(files) > medium.MOST_FILES:
        raise BundleError("too_many_files", f"{bundle} has more than {medium.MOST_FILES} files")
    for fact in files:
        if fact.length == 0:
            raise BundleError("size_mismatch", f"{fact.path} is signed for as an empty file")
    return files


def _manifest(
    source: medium.Medium, bundle: str, files: Sequence[FileFact], state: TrustState
) -> tuple[Manifest, bytes]:
    """Read the manifest before anything is copied: an older or unfit bundle should not cost an hour."""
    fact = next((fact for fact in files if fact.path == manifest.NAME), None)
    if fact is None:
        raise BundleError("file_missing", f"{bundle} has no {manifest.NAME}")
    if fact.length > manifest.SIZE:
        raise BundleError("manifest_size", f"{manifest.NAME} is longer than {manifest.SIZE} bytes")
    with source.open(bundle, fact.path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        text = file.read(fact.length + 1)
    copying.check_bytes(text, fact)
    described = manifest.parse(text, bundle=bundle)
    manifest.check_version(described, state.bundle_versions)
    return described, text


def _fresh(quarantine: Path, files: Sequence[FileFact]) -> Path:
    """A folder of our own; what an interrupted import left is kept only where it is a file we still expect."""
    expected = {fact.path for fact in files}
    if quarantine.is_symlink() or (quarantine.exists() and not quarantine.is_dir()):
        quarantine.unlink()
    quarantine.mkdir(mode=0o750, parents=True, exist_ok=True)
    for path in sorted(quarantine.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or path.relative_to(quarantine).as_posix() not in expected:
            path.unlink()
    return quarantine


def _copy(
    source: medium.Medium,
    bundle: str,
    quarantine: Path,
    files: Sequence[FileFact],
    text: bytes,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> None:
    total = sum(fact.length for fact in files)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    progress(0, total)
    for fact in files:
        target = quarantine / fact.path
        target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if fact.path == manifest.NAME:
            copying.write(target, text, fact)
            advance(fact.length)
        elif copying.is_here(target, fact):
            advance(fact.length)
        else:
            with source.open(bundle, fact.path) as descriptor:
                copying.copy(descriptor, target, fact, advance=advance, cancelled=cancelled)


def _told(catalogue: Catalogue, files: Sequence[FileFact]) -> tuple[Check, ...]:
    size = sum(fact.length for fact in files)
    kept = catalogue.trust
    return (
        Check(
            "signatures",
            True,
            f"root {catalogue.root_version}, catalogue {kept.targets_version}, signed by enough publishers",
        ),
        Check("not older", True, "no version is below one this box has seen"),
        Check("files", True, f"{len(files)} files, {size} bytes, each by its length and SHA-256"),
    )
