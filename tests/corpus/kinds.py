"""Group C: kinds of file. Every bundle here is signed by both publishers: signed is not safe (SECURITY.md T10)."""

from __future__ import annotations

import io
import json
import zipfile

from tests.corpus.case import Spoil, each
from tests.simulators.bundle_maker import BundleMaker


def _file(name: str, data: bytes) -> Spoil:
    def spoil(maker: BundleMaker) -> None:
        maker.files[name] = data
        maker.sign()

    return spoil


def _polyglot(maker: BundleMaker) -> None:
    """Weights with a zip's central directory at the end: every zip reader opens it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("evil.py", "print('hello')")
    maker.files["model.safetensors"] += packed.getvalue()
    maker.sign()


def _zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("tokenizer.json", "{}")
    return packed.getvalue()


each(
    49,
    "content_type",
    pickle_as_weights=_file("model.safetensors", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94."),
    zip_as_tokenizer=_file("tokenizer.json", _zip()),
    elf_as_config=_file("config.json", b"\x7fELF\x02\x01\x01" + b"\0" * 64),
    script_as_template=_file("chat_template.jinja", b"#!/bin/sh\nid\n"),
    gzip_as_card=_file("model_card.json", b"\x1f\x8b\x08\x00" + b"\0" * 32),
    zip_behind_weights=_polyglot,
)
each(
    51,
    "kind_not_allowed",
    python=_file("modeling_x.py", b"import os\n"),
    processor=_file("processing_llava_onevision2.py", b"import os\n"),
    requirements=_file("requirements.txt", b"evil\n"),
    shared_object=_file("x.so", b"\x7fELF"),
    path_file=_file("x.pth", b"import os\n"),
    setup=_file("setup.cfg", b"[metadata]\n"),
    pickle=_file("pytorch_model.bin", b"\x80\x02"),
    in_a_folder=_file("sub/model.safetensors", b"x"),
    another_json=_file("processor_config.json", b"{}"),
)
each(
    52,
    "kind_not_allowed",
    adapter=_file("adapter_config.json", json.dumps({"base_model_name_or_path": "/etc"}).encode()),
)
