"""What is inside a genuine bundle. Signed is not safe: a publisher's keys can be stolen, or a publisher mistaken.

Decides: which kinds of file may exist at all, that each is what its name says, and runs the checks of each kind.
Reads only our own copy in quarantine. Leaves who signed it to `trust`.

Flow A, step 3, top to bottom: kinds, no foreign content, no code, weights, configuration, tokenizer, template.
"""

from __future__ import annotations

import array
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provisioning.bundle import config, safetensors_header, template, tokenizer
from provisioning.bundle.errors import BundleError
from provisioning.bundle.facts import FileFact
from provisioning.bundle.manifest import Manifest
from provisioning.bundle.safetensors_header import Tensor
from provisioning.bundle.strict_json import JsonError, Limits, loads
from provisioning.bundle.verdict import Check, Verdict

_WEIGHTS = re.compile(r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors")
_JSON_SIZE = {
    "config.json": 256 * 1024,
    "generation_config.json": 64 * 1024,
    "golden.json": 4 * 1024 * 1024,
    "manifest.json": 64 * 1024,
    "model.safetensors.index.json": 32 * 1024 * 1024,
    "model_card.json": 1024 * 1024,
    "special_tokens_map.json": 256 * 1024,
    "tokenizer.json": 64 * 1024 * 1024,
    "tokenizer_config.json": 4 * 1024 * 1024,
}
_TEMPLATE = "chat_template.jinja"
_REQUIRED = ("chat_template.jinja", "config.json", "manifest.json", "tokenizer.json", "tokenizer_config.json")
_SECOND_TEMPLATES = ("additional_chat_templates", "chat_template.json", "chat_templates")
# Pickle, zip, ELF, gzip, 7z, PE, script, Mach-O and HDF5: what hides behind a model's file names.
_FOREIGN = (
    *(b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
    *(b"PK\x03\x04", b"\x7fELF", b"\x1f\x8b", b"7z\xbc\xaf", b"MZ", b"#!", b"\xcf\xfa\xed\xfe", b"\x89HDF"),
)
_ZIP_END = b"PK\x05\x06"
_LONGEST_ZIP_TAIL = 65_535 + 22


def check(folder: Path, files: Sequence[FileFact], manifest: Manifest) -> Verdict:
    """Every check of groups C, D and E over a copied bundle; raises at the first refusal, returns holds."""
    checks = [_check_kinds(folder, files)]
    documents = _read_documents(folder, files)
    checks.append(Check("no code", True, f"{len(documents)} JSON files, no field that loads code"))
    shape = config.check(documents["config.json"], manifest.architecture)
    if shape.quantized != (manifest.quantization != "none"):
        raise BundleError("incompatible", "the manifest and config.json disagree about quantization")
    if "generation_config.json" in documents:
        config.check_generation(documents["generation_config.json"])
    checks.append(Check("configuration", True, f"{shape.architecture}, {shape.layers} layers, context {shape.context}"))
    weights, odd = _check_weights(folder, files, shape)
    checks += [weights, odd]
    tokenizer.check(documents["tokenizer.json"], shape.vocab_size)
    tokenizer.check_config(documents["tokenizer_config.json"])
    checks.append(Check("tokenizer", True, "every id inside the vocabulary, no costly pattern"))
    steers = template.check((folder / _TEMPLATE).read_bytes(), _renders(documents.get("golden.json")))
    told = "message content can change the frame: a person must read it" if steers else "every message kept, in order"
    checks.append(Check("chat template", not steers, told))
    return _verdict(tuple(checks))


def _verdict(checks: tuple[Check, ...]) -> Verdict:
    for check_, code in ((c, c.name) for c in checks if not c.ok):
        held = "needs_template_review" if code == "chat template" else "needs_weight_review"
        return Verdict(ok=False, code=held, message=check_.detail, checks=checks)
    return Verdict(ok=True, code="", message="every check passed", checks=checks)


def _check_kinds(folder: Path, files: Sequence[FileFact]) -> Check:
    for fact in files:
        top = fact.path.split("/", 1)[0]
        if top in _SECOND_TEMPLATES:
            raise BundleError("template_ambiguous", f"{fact.path} is a second source of chat templates")
        if not (_WEIGHTS.fullmatch(fact.path) or fact.path in _JSON_SIZE or fact.path == _TEMPLATE):
            raise BundleError("kind_not_allowed", f"{fact.path} is not a kind of file a bundle may hold")
    present = {fact.path for fact in files}
    for name in _REQUIRED:
        if name not in present:
            raise BundleError("file_missing", f"the bundle has no {name}")
    if not any(_WEIGHTS.fullmatch(path) for path in present):
        raise BundleError("file_missing", "the bundle has no weights")
    for fact in files:
        _check_foreign(folder / fact.path, fact)
    return Check("kinds", True, f"{len(files)} files: weights, JSON, tokenizer and template only")


def _check_foreign(path: Path, fact: FileFact) -> None:
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(max(0, fact.length - _LONGEST_ZIP_TAIL))
        tail = file.read()
    # Weights start with a length, whose low bytes may look like anything; their own parser decides what follows.
    starts_foreign = head.startswith(_FOREIGN) and not (_WEIGHTS.fullmatch(fact.path) and head[8:9] == b"{")
    if starts_foreign or _is_zip_at_end(tail):
        raise BundleError("content_type", f"{fact.path} is not what its name says")


def _is_zip_at_end(tail: bytes) -> bool:
    """A zip reader starts at the end of a file: an end record whose comment ends exactly there makes it a zip."""
    at = tail.rfind(_ZIP_END)
    while at >= 0:
        if len(tail) - at >= 22 and int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail) - at - 22:
            return True
        at = tail.rfind(_ZIP_END, 0, at)
    return False


def _read_documents(folder: Path, files: Sequence[FileFact]) -> dict[str, Any]:
    documents: dict[str, Any] = {}
    for fact in files:
        if not fact.path.endswith(".json"):
            continue
        limit = _JSON_SIZE[fact.path]
        if fact.length > limit:
            raise BundleError("json_syntax", f"{fact.path} is longer than {limit} bytes")
        try:
            value = loads((folder / fact.path).read_bytes(), Limits(size=limit, depth=32, fractions=True))
        except JsonError as error:
            raise BundleError("json_syntax", f"{fact.path}: {error}") from None
        if not isinstance(value, dict) and fact.path != "golden.json":
            raise BundleError("json_syntax", f"{fact.path} is not an object")
        config.check_no_code(value, fact.path)
        documents[fact.path] = value
    return documents


def _check_weights(folder: Path, files: Sequence[FileFact], shape: config.ModelShape) -> tuple[Check, Check]:
    tensors: dict[str, Tensor] = {}
    odd: list[str] = []
    for fact in files:
        if not _WEIGHTS.fullmatch(fact.path):
            continue
        with (folder / fact.path).open("rb") as file:
            found = safetensors_header.read(file, os.fstat(file.fileno()).st_size)
            for name in sorted(found):
                if name in tensors:
                    raise BundleError("st_duplicate", f"{name} is in two weight files")
            odd += [t.name for t in found.values() if t.name.endswith("norm.weight") and not _finite(file.fileno(), t)]
        tensors |= found
    config.check_tensors(shape, tensors)
    size = sum(t.end - t.start for t in tensors.values())
    weights = Check("weights", True, f"{len(tensors)} tensors, {size} bytes, exactly what config.json asks for")
    if odd:
        return weights, Check("finite norms", False, f"{min(odd)} holds a value that is not a number")
    return weights, Check("finite norms", True, "every norm weight is a number")


def _finite(descriptor: int, tensor: Tensor) -> bool:
    """Whether no element has all exponent bits set, which is how NaN and infinity are written."""
    layout = {"F32": ("I", 0x7F800000), "F16": ("H", 0x7C00), "BF16": ("H", 0x7F80)}.get(tensor.dtype)
    if layout is None:
        return True
    values = array.array(layout[0], os.pread(descriptor, tensor.end - tensor.start, tensor.start))
    if sys.byteorder == "big":
        values.byteswap()
    return all(value & layout[1] != layout[1] for value in values)


def _renders(golden: Any) -> list[Mapping[str, Any]]:
    """The publisher's recorded renderings, where `golden.json` has any; other keys of it are for the evaluation."""
    cases = golden.get("renders", []) if isinstance(golden, dict) else []
    if not isinstance(cases, list) or len(cases) > 64:
        raise BundleError("json_syntax", "golden.json: renders is not a list of at most 64")
    for case in cases:
        messages = case.get("messages") if isinstance(case, dict) else None
        if not isinstance(messages, list) or not isinstance(case.get("render"), str):
            raise BundleError("json_syntax", "golden.json: a render has no messages or no text")
    return cases
