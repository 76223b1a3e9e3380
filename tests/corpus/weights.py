"""Group D: safetensors headers. What the reference parser 0.8.0 accepts of these is in BAD_INPUTS."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from tests.corpus.case import Spoil, each
from tests.simulators.bundle_maker import BundleMaker, header, raw_weights, shapes, weights

NORM = "model.norm.weight"
ONES = b"\0\0\x80\x3f"


def _file(data: bytes) -> Spoil:
    def spoil(maker: BundleMaker) -> None:
        maker.files["model.safetensors"] = data
        maker.sign()

    return spoil


def _text(change: Callable[[str], str]) -> Spoil:
    entries, size = header(shapes())
    return _file(raw_weights(change(json.dumps(entries, separators=(",", ":"))).encode(), ONES * (size // 4)))


def _entry(change: Callable[[dict[str, Any]], None], *, extra: int = 0) -> Spoil:
    entries, size = header(shapes())
    change(entries)
    return _file(weights(entries, ONES * (size // 4 + extra)))


def _norm(**fields: Any) -> Spoil:
    return _entry(lambda entries: entries[NORM].update(fields))


def _renamed(name: str) -> Spoil:
    return _entry(lambda entries: entries.update({name: entries.pop(NORM)}))


def _added(name: str, entry: dict[str, Any], *, extra: int = 0) -> Spoil:
    return _entry(lambda entries: entries.update({name: entry}), extra=extra)


def _offsets() -> list[int]:
    found: list[int] = header(shapes())[0][NORM]["data_offsets"]
    return found


START, END = _offsets()
NORM_TEXT = json.dumps({"dtype": "F32", "shape": [16], "data_offsets": [START, END]}, separators=(",", ":"))

each(
    53,
    "st_header_len",
    seven_bytes=_file(b"\0" * 7),
    length_zero=_file(struct.pack("<Q", 0) + b"{}"),
    longer_than_the_file=_file(struct.pack("<Q", 100) + b"{}"),
    two_to_the_63=_file(struct.pack("<Q", 2**63) + b"{}"),
)
each(
    55,
    "st_header_start",
    space=_text(lambda text: " " + text),
    newline=_text(lambda text: "\n" + text),
    byte_order_mark=_text(lambda text: "\ufeff" + text),
)
each(
    56,
    "st_header_json",
    nul_padding=_text(lambda text: text + "\0\0"),
    newline_padding=_text(lambda text: text + "\n"),
    second_object=_text(lambda text: text + "{}"),
)
each(
    57,
    "st_duplicate",
    same_range=_text(lambda text: text[:-1] + f',"{NORM}":{NORM_TEXT}}}'),
    by_escape=_text(lambda text: text[:-1] + f',"\\u006dodel.norm.weight":{NORM_TEXT}}}'),
)
each(
    58,
    "st_duplicate",
    key_in_metadata=_text(lambda text: text.replace('{"format":"pt"}', '{"format":"pt","format":"pt"}')),
    metadata_twice=_text(lambda text: text[:-1] + ',"__metadata__":{}}'),
)
each(59, "st_unknown_field", evil=_norm(evil=1))
each(
    61,
    "st_type",
    negative=_norm(data_offsets=[-64, 0]),
    fraction=_norm(data_offsets=[0.0, 64]),
    text=_norm(data_offsets=["0", "64"]),
    two_to_the_63=_norm(data_offsets=[2**63, 2**63 + 64]),
    true=_norm(shape=[True]),
    metadata_of_numbers=_entry(lambda entries: entries.update(__metadata__={"format": 1})),
    missing_dtype=_entry(lambda entries: entries[NORM].pop("dtype") and None),
)
each(
    62,
    "st_shape",
    overflow=_norm(shape=[2**31, 2**31, 2**31]),
    zero_and_huge=_norm(shape=[0, 2**62]),
    rank_ten_thousand=_norm(shape=[1] * 10_000),
    too_large=_norm(shape=[2**32]),
    larger_than_its_bytes=_norm(shape=[17]),
    gap=_entry(lambda entries: entries[NORM].update(data_offsets=[START + 4, END + 4]), extra=1),
    overlap=_entry(lambda entries: entries[NORM].update(data_offsets=[START - 4, END - 4])),
    bytes_after_the_last=_entry(lambda _: None, extra=1),
    a_hundred_thousand_empty=_entry(
        lambda entries: entries.update(
            {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [END, END]} for n in range(100_001)}
        )
    ),
)
each(
    64,
    "st_name",
    path=_renamed("../../x"),
    nul=_renamed("a\0b"),
    empty=_renamed(""),
    ten_kilobytes=_renamed("a" * 10_240),
    not_ascii=_renamed("m\u00f6del"),
)
each(
    65,
    "st_dtype",
    unknown=_norm(dtype="F128"),
    not_for_language_models=_norm(dtype="BOOL"),
    another_than_config=lambda maker: _config(maker, dtype="bfloat16"),
)
each(
    68,
    "st_header_json",
    not_utf8=_file(raw_weights(b'{"\xff":{}}', b"")),
    ten_thousand_deep=_file(raw_weights(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"")),
)
each(
    70,
    "st_shape_config",
    tensor_missing=_entry(lambda entries: entries.update({"spare": entries.pop(NORM)})),
    vocabulary_of_another_size=lambda maker: _config(maker, vocab_size=64),
    head_not_tied=lambda maker: _config(maker, tie_word_embeddings=False),
    one_tensor_more=_added(
        "model.extra.weight", {"dtype": "F32", "shape": [1], "data_offsets": [END, END + 4]}, extra=1
    ),
)


def _config(maker: BundleMaker, **fields: Any) -> None:
    maker.config.update(fields)
    maker.sign()
