"""Whether an order may become a process. Asked before every start, of the bytes on the disk as they are now.

Decides yes by returning, no by raising with a code. Believes nothing that the order, the database or the console says
about itself: digests are computed again, signatures checked again, every file hashed again (SECURITY.md T20, T29, T35).

The order of the questions: is it for this slot; did enough people sign exactly this; is what they signed something we
would ever start; is the engine the one they named; are the files the ones they named, all of them and no others.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioning import approval
from provisioning.bundle.facts import FileFact, release_digest
from provisioning.launcher import arguments
from provisioning.launcher.errors import LaunchRefusedError
from provisioning.launcher.order import Order
from provisioning.site_config import Site

KINDS = ("release.activate", "release.roll_back")
FACTS = {
    "release", "bundle", "version", "files", "engine", "arguments", "environment", "served_model_name", "routes",
    "evaluation", "slot_rule",
}  # fmt: skip
LATER_FACTS = {"capabilities"}
"""Signed today, and absent from changes that were signed before it was a fact; it starts nothing and names no file."""
MOST_FILES = 512
_THREADS = 2


@dataclass(frozen=True)
class Approved:
    """What may be started, and nothing else."""

    release: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    approvers: tuple[str, ...]
    verified_bytes: int


def verify(order: Order, *, slot: str, site: Site, roster_key: bytes, progress: Callable[[int], None]) -> Approved:
    """The approved launch, or LaunchRefusedError; `progress` hears the bytes verified so far."""
    if order.slot != slot:
        raise LaunchRefusedError("order_slot", f"this order is for slot {order.slot}, not for slot {slot}")
    approvers = _signed(order, roster_key)
    facts = _facts(order)
    arguments.check(facts["arguments"], served_model_name=facts["served_model_name"])
    arguments.check_environment(facts["environment"])
    _check_engine(facts["engine"], site.engine.python)
    release = site.releases_dir / facts["release"]
    total = _check_files(release, _listed(facts["files"], facts["release"]), progress)
    return Approved(release, tuple(facts["arguments"]), dict(facts["environment"]), approvers, total)


def _signed(order: Order, roster_key: bytes) -> tuple[str, ...]:
    if order.change.digest != order.claimed_digest:
        raise LaunchRefusedError("change_digest", "the change is not the one its digest was made of")
    if order.change.kind not in KINDS:
        raise LaunchRefusedError("change_kind", "an approved change of this kind starts no engine")
    try:
        return approval.check(order.change, approvals=order.approvals, roster=order.roster, roster_key=roster_key)
    except approval.ApprovalError as error:
        raise LaunchRefusedError(error.code, str(error)) from None


def _facts(order: Order) -> Mapping[str, Any]:
    facts = order.change.facts
    texts = ("release", "bundle", "served_model_name")
    well_formed = (
        set(facts) - LATER_FACTS == FACTS
        and all(isinstance(facts[name], str) for name in texts)
        and _texts(facts["arguments"])
        and isinstance(facts["environment"], dict)
        and _texts(list(facts["environment"].values()))
        and isinstance(facts["engine"], dict)
        and isinstance(facts["files"], dict)
    )
    if not well_formed:
        raise LaunchRefusedError("facts_shape", "the approved facts are not those of a launch")
    if order.change.subject != facts["release"]:
        raise LaunchRefusedError("facts_shape", "the change is about another release than its facts")
    return facts


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _check_engine(engine: Mapping[str, Any], python: Path) -> None:
    installed = arguments.engine_version(python)
    if engine.get("version") != installed:
        raise LaunchRefusedError("engine_version", f"vLLM {installed} is installed; another version was approved")
    if engine.get("lock") != arguments.engine_lock(python):
        raise LaunchRefusedError("engine_lock", "the engine was installed from another lock than was approved")


def _listed(files: Mapping[str, Any], digest: str) -> dict[str, FileFact]:
    listed: dict[str, FileFact] = {}
    for path, entry in files.items():
        plain = isinstance(entry, dict) and set(entry) == {"length", "sha256"}
        if not plain or type(entry["length"]) is not int or not isinstance(entry["sha256"], str):
            raise LaunchRefusedError("facts_shape", "the approved facts list a file without length and digest")
        listed[path] = FileFact(path, entry["length"], entry["sha256"])
    if not listed or len(listed) > MOST_FILES or release_digest(listed.values()) != digest:
        raise LaunchRefusedError("release_digest", "the approved files do not make up the approved release")
    return listed


def _check_files(release: Path, listed: Mapping[str, FileFact], progress: Callable[[int], None]) -> int:
    """No file more, none less, each of its length; then every byte, on two threads."""
    found: set[str] = set()
    for path, facts in _walk(release, ""):
        if path not in listed:
            raise LaunchRefusedError("file_unlisted", f"{path} lies in the release but was not approved")
        if facts.st_size != listed[path].length:
            raise LaunchRefusedError("size_mismatch", f"{path} is not as long as approved")
        found.add(path)
    for path in sorted(set(listed) - found):
        raise LaunchRefusedError("file_missing", f"{path} was approved but is not there")
    done = 0
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="verify") as pool:
        largest_first = sorted(listed.values(), key=lambda fact: -fact.length)
        for fact, digest in zip(largest_first, pool.map(lambda f: _hash(release / f.path), largest_first), strict=True):
            if digest != fact.sha256:
                raise LaunchRefusedError("digest_mismatch", f"{fact.path} is not the file that was approved")
            done += fact.length
            progress(done)
    return done


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        raise LaunchRefusedError("release_missing", "the approved release is not on this box") from None
    if folder.is_symlink():
        raise LaunchRefusedError("file_not_regular", "the release's folder is a link")
    for entry in entries:
        path = f"{prefix}{entry.name}"
        facts = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            yield from _walk(folder / entry.name, f"{path}/")
            continue
        if not stat.S_ISREG(facts.st_mode):
            raise LaunchRefusedError("file_not_regular", f"{path} is not a regular file")
        if facts.st_nlink != 1:
            raise LaunchRefusedError("file_linked", f"{path} has more than one name")
        if facts.st_mode & 0o133:
            raise LaunchRefusedError("bad_mode", f"{path} can be executed, or written by others than its owner")
        yield path, facts


def _hash(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise LaunchRefusedError("digest_mismatch", f"{path.name} cannot be read") from None
