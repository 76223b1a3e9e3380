"""`manifest.json`: what the publisher says about a bundle. Signed like every other file, and just as bounded.

Decides: which facts a bundle must state and how they are written, and whether this appliance can serve it at all.
Leaves who signed it to `trust`, and whether the statements are true to the people who approve it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from provisioning.bundle import shape
from provisioning.bundle.errors import BundleError
from provisioning.bundle.medium import BUNDLE_NAME
from provisioning.version import VERSION

NAME = "manifest.json"
FORMAT = "isoward-manifest-v1"
SIZE = 64 * 1024
# What our launch arguments, our tensor check and our evaluation know. A new one is a decision, not a download.
ARCHITECTURES = ("LlamaForCausalLM", "Qwen3ForCausalLM")
QUANTIZATIONS = ("none", "fp8", "gptq", "awq", "compressed-tensors")

_TEXTS = ("title", "family", "license", "intended_use", "source", "converter")
_REQUIRED = {"format", "name", "version", "architecture", "quantization", "languages", "min_appliance_version", *_TEXTS}
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")
_LONGEST_TEXT = 2000


@dataclass(frozen=True)
class Manifest:
    """The publisher's statements, typed; `raw` is the document as it was signed."""

    name: str
    version: int
    title: str
    family: str
    architecture: str
    license: str
    intended_use: str
    quantization: str
    source: str
    converter: str
    languages: tuple[str, ...]
    min_appliance_version: str
    raw: Mapping[str, Any] = field(repr=False)


def parse(data: bytes, *, bundle: str) -> Manifest:
    """The manifest of `bundle`, or a refusal with a code of group B."""
    raw = shape.parse(data, SIZE, NAME)
    shape.fields(raw, _REQUIRED, NAME)
    if raw["format"] != FORMAT:
        raise BundleError("manifest_type", f"{NAME} is not written in {FORMAT}")
    name = shape.text(raw["name"], BUNDLE_NAME, "the bundle's name")
    if name != bundle:
        raise BundleError("digest_mismatch", f"{NAME} belongs to another bundle")
    for key in _TEXTS:
        _check_text(key, raw[key])
    languages = raw["languages"]
    if not isinstance(languages, list) or not 0 < len(languages) <= 32:
        raise BundleError("manifest_type", "languages is not a list of 1 to 32")
    manifest = Manifest(
        name=name,
        version=shape.whole(raw["version"], 1, 2**31, "the bundle's version"),
        architecture=_known(raw["architecture"], ARCHITECTURES, "architecture"),
        quantization=_known(raw["quantization"], QUANTIZATIONS, "quantization"),
        languages=tuple(shape.text(language, _LANGUAGE, "a language") for language in languages),
        min_appliance_version=shape.text(raw["min_appliance_version"], _VERSION, "min_appliance_version"),
        raw=raw,
        **{key: raw[key] for key in _TEXTS},
    )
    if _numbers(manifest.min_appliance_version) > _numbers(VERSION):
        raise BundleError("incompatible", f"needs appliance {manifest.min_appliance_version}; this is {VERSION}")
    return manifest


def check_version(manifest: Manifest, floors: Mapping[str, int]) -> None:
    """A bundle never goes back: its own floor, besides the catalogue's."""
    floor = floors.get(manifest.name, 0)
    if manifest.version < floor:
        raise BundleError("rollback", f"{manifest.name} {manifest.version} is older than {floor}, received before")


def _check_text(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise BundleError("manifest_type", f"{key} is not text")
    if not value.strip():
        raise BundleError("manifest_missing_field", f"{key} says nothing")
    if len(value) > _LONGEST_TEXT or not all(character.isprintable() or character == "\n" for character in value):
        raise BundleError("manifest_type", f"{key} is longer than {_LONGEST_TEXT} or has control characters")


def _known(value: Any, known: tuple[str, ...], what: str) -> str:
    if not isinstance(value, str):
        raise BundleError("manifest_type", f"{what} is not text")
    if value not in known:
        raise BundleError("incompatible", f"this appliance does not serve this {what}")
    return value


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
