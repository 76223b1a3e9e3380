"""Copying once, from media that misbehave, and what stays behind: T06, T07, and interrupted imports."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from provisioning.bundle import BundleError, Verdict, copying, discover, install, release_digest
from provisioning.bundle.facts import FileFact
from tests.simulators.bundle_maker import NAME, BundleMaker, header, shapes, weights


def large(maker: BundleMaker) -> BundleMaker:
    """Weights of several blocks, so that something can happen in the middle."""
    maker.config["vocab_size"] = 80_000
    entries, size = header(shapes(maker.config))
    maker.files["model.safetensors"] = weights(entries, b"\0\0\x80\x3f" * (size // 4))
    return maker.sign()


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(BundleError) as caught:
        act()
    return caught.value.code


def test_what_is_received_is_plain_files_with_the_signed_digests(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    for path in maker.tree.iterdir():
        path.chmod(0o6777)
    received = maker.receive()
    assert received.digest == release_digest(received.files)
    assert {fact.path for fact in received.files} == {path.name for path in maker.quarantine.iterdir()}
    for fact in received.files:
        path = maker.quarantine / fact.path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == fact.sha256
        assert path.stat().st_mode & 0o7777 == 0o440


def test_a_medium_that_answers_a_second_read_differently_gains_nothing(tmp_path: Path) -> None:
    maker = large(BundleMaker(tmp_path))

    def flip_what_was_read(done: int, total: int) -> None:
        if done == total:
            for path in maker.tree.iterdir():
                path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))

    received = maker.receive(progress=flip_what_was_read)
    for fact in received.files:
        assert hashlib.sha256((maker.quarantine / fact.path).read_bytes()).hexdigest() == fact.sha256


def test_a_medium_that_changes_a_file_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    maker = large(BundleMaker(tmp_path))
    path = maker.tree / "model.safetensors"

    def overwrite(_done: int, _total: int) -> None:
        with path.open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"evil")

    assert code_of(lambda: maker.receive(progress=overwrite)) == "digest_mismatch"
    assert not maker.quarantine.exists()


def test_a_file_that_grows_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    maker = large(BundleMaker(tmp_path))
    in_the_middle = maker.tree / "model.safetensors"
    told: list[int] = []

    def grow(done: int, _total: int) -> None:
        told.append(done)
        if done > 2 * copying.BLOCK:
            with in_the_middle.open("ab") as file:
                file.write(b"more")

    assert code_of(lambda: maker.receive(progress=grow)) == "size_mismatch"
    assert len(told) > 2


def test_a_read_error_on_the_medium_is_said_as_one(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)  # reading a folder fails, as a broken block does
    try:
        fact = FileFact("model.safetensors", os.fstat(folder).st_size, "0" * 64)
        act = partial(copying.copy, folder, tmp_path / "x", fact, advance=lambda _: None, cancelled=lambda: False)
        assert code_of(act) == "media_read_error"
    finally:
        os.close(folder)


def test_an_import_can_be_cancelled_in_the_middle_and_leaves_nothing(tmp_path: Path) -> None:
    maker = large(BundleMaker(tmp_path))
    told: list[int] = []
    act = partial(maker.receive, progress=lambda done, _: told.append(done), cancelled=lambda: len(told) > 3)
    assert code_of(act) == "cancelled"
    assert not maker.quarantine.exists()


def test_progress_starts_at_nothing_and_ends_at_everything(tmp_path: Path) -> None:
    maker = large(BundleMaker(tmp_path))
    told: list[tuple[int, int]] = []
    received = maker.receive(progress=lambda done, total: told.append((done, total)))
    total = sum(fact.length for fact in received.files)
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert told == sorted(told)


class KilledError(BaseException):
    """Stands for SIGKILL: no handler of ours may see it."""


def test_an_import_that_was_killed_goes_on_where_it_was_and_believes_nothing_it_left(tmp_path: Path) -> None:
    maker = large(BundleMaker(tmp_path))

    def die(done: int, total: int) -> None:
        if done == total:
            raise KilledError

    with pytest.raises(KilledError):
        maker.receive(progress=die)
    assert (maker.quarantine / "model.safetensors").exists()
    (maker.quarantine / "tokenizer.json").chmod(0o600)
    (maker.quarantine / "tokenizer.json").write_bytes(b"{}")
    (maker.quarantine / "evil.py").write_bytes(b"import os")
    unread = maker.tree / "model.safetensors"
    unread.write_bytes(b"\0" * unread.stat().st_size)  # copied before: must not be needed again
    received = maker.receive()
    assert received.verdict.ok
    assert not (maker.quarantine / "evil.py").exists()


def test_a_link_in_place_of_the_quarantine_folder_is_not_followed(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    maker.quarantine.symlink_to(tmp_path / "elsewhere")
    maker.receive()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_copying_needs_no_more_memory_for_a_larger_file(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        os.truncate(file.fileno(), 256 * 1024 * 1024)
    digest = hashlib.sha256()
    for _ in range(256):
        digest.update(bytes(1024 * 1024))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    descriptor = os.open(source, os.O_RDONLY)
    fact = FileFact("source", 256 * 1024 * 1024, digest.hexdigest())
    copying.copy(descriptor, target, fact, advance=lambda _: None, cancelled=lambda: False)
    os.close(descriptor)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
    target.unlink()


def test_an_unknown_bundle_and_a_name_that_is_a_path_are_refused(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    for name, code in (("other", "bundle_unknown"), ("../demo", "bad_name"), ("", "bad_name"), ("Demo", "bad_name")):
        assert code_of(partial(maker.receive, bundle_name=name)) == code


def test_a_medium_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    maker.medium.rename(tmp_path / "gone")
    assert code_of(maker.receive) == "media_unreadable"


def test_installing_is_one_rename_and_a_second_copy_is_refused(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    received = maker.receive()
    target = install(maker.quarantine, tmp_path / "releases", received.digest)
    assert target == tmp_path / "releases" / received.digest
    assert not maker.quarantine.exists()
    assert all(path.stat().st_mode & 0o7777 == 0o440 for path in target.iterdir())
    again = maker.receive()
    assert code_of(lambda: install(maker.quarantine, tmp_path / "releases", again.digest)) == "already_installed"


def test_a_medium_shows_what_it_claims_to_hold_and_a_broken_one_shows_nothing(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path / "media")
    (found,) = discover(maker.medium)
    assert (found.name, found.version, found.medium) == (NAME, 7, maker.medium)
    assert found.total_bytes == sum(path.stat().st_size for path in maker.tree.iterdir())
    assert discover(tmp_path / "media") == (found,)
    maker.write_document("targets", b"{")
    assert discover(maker.medium) == ()
    assert discover(tmp_path / "nothing") == ()


def test_a_verdict_can_be_kept_and_read_again(tmp_path: Path) -> None:
    verdict = BundleMaker(tmp_path).receive().verdict
    assert Verdict.from_dict(verdict.to_dict()) == verdict
    assert [check.name for check in verdict.checks][:3] == ["signatures", "not older", "files"]
