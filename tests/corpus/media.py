"""Group A: media and file trees."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.corpus.case import Spoil, bad, each
from tests.simulators.bundle_maker import BundleMaker


@bad(1, "file_not_regular")
def link_to_a_secret(maker: BundleMaker) -> None:
    path = maker.tree / "config.json"
    path.unlink()
    path.symlink_to("/etc/shadow")


@bad(1, "file_not_regular")
def link_in_place_of_the_bundle(maker: BundleMaker) -> None:
    maker.tree.rename(maker.folder / "elsewhere")
    maker.tree.symlink_to(maker.folder / "elsewhere")


@bad(1, "file_not_regular")
def link_in_place_of_signed_metadata(maker: BundleMaker) -> None:
    path = maker.medium / "metadata" / "targets.json"
    path.rename(maker.folder / "targets.json")
    path.symlink_to(maker.folder / "targets.json")


@bad(3, "file_linked")
def two_names_for_one_file(maker: BundleMaker) -> None:
    os.link(maker.tree / "config.json", maker.folder / "another-name")


@bad(4, "file_not_regular")
def fifo_named_as_weights(maker: BundleMaker) -> None:
    (maker.tree / "model.safetensors").unlink()
    os.mkfifo(maker.tree / "model.safetensors")


@bad(4, "file_not_regular")
def fifo_named_as_metadata(maker: BundleMaker) -> None:
    (maker.medium / "metadata" / "timestamp.json").unlink()
    os.mkfifo(maker.medium / "metadata" / "timestamp.json")


@bad(4, "file_not_regular")
def socket_named_as_weights(maker: BundleMaker) -> None:
    (maker.tree / "model.safetensors").unlink()
    here = Path.cwd()
    os.chdir(maker.tree)  # a socket's path is short, a test folder's is not
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("model.safetensors")
    finally:
        os.chdir(here)


@bad(6, "size_mismatch")
def sparse_file_of_a_tebibyte(maker: BundleMaker) -> None:
    os.truncate(maker.tree / "model.safetensors", 2**40)


@bad(6, "quota")
def signed_for_more_than_the_disk_holds(maker: BundleMaker) -> None:
    def claim(signed: dict[str, Any]) -> None:
        signed["targets"]["demo/model.safetensors"]["length"] = 2**41

    os.truncate(maker.tree / "model.safetensors", 2**41)
    maker.alter_catalogue(claim)


def _extra(name: bytes) -> Spoil:
    def spoil(maker: BundleMaker) -> None:
        os.close(os.open(os.fsencode(maker.tree) + b"/" + name, os.O_WRONLY | os.O_CREAT))  # a name that is no text

    return spoil


each(
    9,
    "bad_name",
    newline=_extra(b"config\n.json"),
    tab=_extra(b"config\t.json"),
    not_utf8=_extra(b"config\xff.json"),
    right_to_left=_extra("nosj\u202e.json".encode()),
    zero_width=_extra("con\u200bfig.json".encode()),
    trailing_space=_extra(b"config.json "),
    trailing_dot=_extra(b"config.json."),
    leading_minus=_extra(b"-config.json"),
    leading_dot=_extra(b".config.json"),
)
each(12, "bad_name", cyrillic_letter=_extra("conf\u0456g.json".encode()))
each(13, "bad_name", longest_name=_extra(b"a" * 255))


@bad(10, "name_collision")
def names_that_differ_in_case(maker: BundleMaker) -> None:
    (maker.tree / "Config.JSON").write_bytes(b"{}")


@bad(13, "bad_name")
def folders_without_end(maker: BundleMaker) -> None:
    (maker.tree.joinpath(*["d"] * 50)).mkdir(parents=True)


def _litter(*parts: str) -> Callable[[BundleMaker], None]:
    def spoil(maker: BundleMaker) -> None:
        path = maker.tree.joinpath(*parts)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"litter")

    return spoil


each(
    15,
    "file_unlisted",
    git=_litter(".git", "x"),
    gitattributes=_litter(".gitattributes"),
    pycache=_litter("__pycache__", "x.pyc"),
    ds_store=_litter(".DS_Store"),
    thumbs=_litter("Thumbs.db"),
    volume_information=_litter("System Volume Information", "x"),
    one_file_more=_litter("notes.json"),
)


@bad(15, "file_unlisted")
def something_beside_the_two_folders(maker: BundleMaker) -> None:
    (maker.medium / "autorun.inf").write_bytes(b"[autorun]")


@bad(15, "file_unlisted")
def something_beside_the_signed_metadata(maker: BundleMaker) -> None:
    (maker.medium / "metadata" / "notes.json").write_bytes(b"{}")


@bad(32, "size_mismatch")
def one_byte_more(maker: BundleMaker) -> None:
    with (maker.tree / "config.json").open("ab") as file:
        file.write(b" ")


@bad(32, "size_mismatch")
def one_byte_less(maker: BundleMaker) -> None:
    os.truncate(maker.tree / "config.json", (maker.tree / "config.json").stat().st_size - 1)


@bad(45, "digest_mismatch")
def one_flipped_byte(maker: BundleMaker) -> None:
    path = maker.tree / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@bad(45, "file_missing")
def one_file_less(maker: BundleMaker) -> None:
    (maker.tree / "tokenizer.json").unlink()


@bad(45, "file_missing")
def no_metadata_at_all(maker: BundleMaker) -> None:
    (maker.medium / "metadata").rename(maker.folder / "metadata")
