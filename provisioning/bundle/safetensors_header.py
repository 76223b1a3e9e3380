"""Our own reader of the safetensors header, stricter than the reference one.

Decides: whether a weight file is exactly a header and its tensors, with nothing hidden and no number that overflows a
loader. The reference parser accepts duplicate names, unknown keys, names with `../`, a hundred thousand empty tensors
and shapes of rank ten thousand (SECURITY.md finding 6). Leaves to `config` whether these are the tensors the model needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from provisioning.bundle.errors import BundleError
from provisioning.bundle.strict_json import JsonError, Limits, loads

BITS = {
    "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "I8": 8, "U8": 8, "I32": 32, "I64": 64,
}  # fmt: skip
"""Element sizes of the types we load; anything else has no business in a language model's weights."""

_LARGEST_HEADER = 32 * 1024 * 1024
_MOST_TENSORS = 100_000
_HIGHEST_RANK = 8
_LARGEST_DIMENSION = 2**31
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,256}")
_FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True)
class Tensor:
    """One tensor: where its bytes lie, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read(file: BinaryIO, size: int) -> dict[str, Tensor]:
    """The tensors of an open file of `size` bytes, or a refusal with a code of group D."""
    raw = file.read(8)
    length = int.from_bytes(raw, "little")
    if len(raw) < 8 or not 2 <= length <= min(_LARGEST_HEADER, size - 8):
        raise BundleError("st_header_len", "the header's length is not one this file can have")
    header = file.read(length)
    if not header.startswith(b"{"):
        raise BundleError("st_header_start", "the header does not start with its object")
    # The format pads with spaces; tabs, newlines and zero bytes would be somewhere to hide.
    if not header.rstrip(b" ").endswith(b"}"):
        raise BundleError("st_header_json", "the header does not end with its object")
    entries = _parse(header)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BundleError("st_type", "__metadata__ is not an object of texts")
    if len(entries) > _MOST_TENSORS:
        raise BundleError("st_shape", f"more than {_MOST_TENSORS} tensors")
    base = 8 + length
    tensors = {name: _tensor(name, value, base) for name, value in entries.items()}
    _check_cover(tensors, base, size)
    return tensors


def _parse(header: bytes) -> dict[str, Any]:
    try:
        value = loads(header, Limits(size=_LARGEST_HEADER, depth=8))
    except JsonError as error:
        code = {"duplicate": "st_duplicate", "number": "st_type"}.get(error.kind, "st_header_json")
        raise BundleError(code, f"the header: {error}") from None
    if not isinstance(value, dict):
        raise BundleError("st_header_json", "the header is not an object")
    return value


def _tensor(name: str, value: Any, base: int) -> Tensor:
    if not _NAME.fullmatch(name):
        raise BundleError("st_name", "a tensor's name is not plain")
    if not isinstance(value, dict):
        raise BundleError("st_type", f"{name} is not an object")
    if set(value) != _FIELDS:
        raise BundleError(
            "st_unknown_field" if set(value) - _FIELDS else "st_type", f"{name} has other fields than it must"
        )
    dtype = value["dtype"]
    if not isinstance(dtype, str):
        raise BundleError("st_type", f"{name}: dtype is not text")
    if dtype not in BITS:
        raise BundleError("st_dtype", f"{name} has a type this appliance does not load")
    shape = _whole_numbers(name, value["shape"])
    if len(shape) > _HIGHEST_RANK or not all(1 <= dimension <= _LARGEST_DIMENSION for dimension in shape):
        raise BundleError("st_shape", f"{name} has a shape no model has")
    offsets = _whole_numbers(name, value["data_offsets"])
    if len(offsets) != 2 or min(offsets) < 0:
        raise BundleError("st_type", f"{name}: data_offsets are not two positions")
    count = 1
    for dimension in shape:
        count *= dimension
    start, end = offsets
    if count * BITS[dtype] != (end - start) * 8:
        raise BundleError("st_shape", f"{name}: its shape and its bytes do not agree")
    return Tensor(name, dtype, shape, base + start, base + end)


def _whole_numbers(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise BundleError("st_type", f"{name} has a number that is not whole")
    return tuple(value)


def _check_cover(tensors: Mapping[str, Tensor], base: int, size: int) -> None:
    """The tensors lie end to end from the header to the end of the file: no gap, no overlap, nothing after."""
    position = base
    for tensor in sorted(tensors.values(), key=lambda t: t.start):
        if tensor.start != position:
            raise BundleError("st_shape", f"{tensor.name} does not start where the one before it ends")
        position = tensor.end
    if position != size:
        raise BundleError("st_shape", "the tensors do not fill the file exactly")
