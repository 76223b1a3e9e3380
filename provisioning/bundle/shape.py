"""The exact form of signed metadata, checked before python-tuf sees it.

Decides: which fields a document has, their types and bounds. Leaves signatures, versions and expiry to `trust`.

python-tuf accepts unknown fields, `true` as a version (`True >= 1`) and any hash name; we do not (BAD_INPUTS B).
Malformed signatures are dropped, not fatal: what counts is whether enough good ones remain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from provisioning.bundle.errors import BundleError
from provisioning.bundle.strict_json import JsonError, Limits, loads

ROLES = ("root", "targets", "snapshot", "timestamp")
SIZE = {"root": 256 * 1024, "timestamp": 64 * 1024, "snapshot": 64 * 1024, "targets": 1024 * 1024}

_MOST_SIGNATURES = 32
_MOST_KEYS = 64
_LARGEST_FILE = 2**42
_HEX_64 = re.compile(r"[0-9a-f]{64}")
_HEX_128 = re.compile(r"[0-9a-f]{128}")
_SPEC_VERSION = re.compile(r"1\.0\.[0-9]{1,4}")
_MOMENT = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z")
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_LONGEST_PATH = 255

CODE_OF_JSON = {
    "size": "manifest_size",
    "number": "manifest_type",
    "syntax": "manifest_syntax",
    "depth": "manifest_syntax",
    "duplicate": "manifest_syntax",
}


def read(data: bytes, role: str) -> dict[str, Any]:
    """The document as plain values in the promised shape, with only well-formed signatures; or BundleError."""
    document = parse(data, SIZE[role], f"{role}.json")
    fields(document, {"signatures", "signed"}, role)
    signed = document["signed"]
    kind = _dictionary(signed, role).get("_type")
    if kind != role:
        # A genuine signature over another kind of document is a replay, whoever made it.
        raise BundleError("signature_context", f"{role}.json holds a document of another kind")
    _SHAPES[role](signed)
    return {"signatures": _signatures(document["signatures"], role), "signed": signed}


def parse(data: bytes, size: int, name: str) -> dict[str, Any]:
    """Strict JSON of an object, as every signed document is; codes of group B."""
    if b"\r" in data:
        raise BundleError("manifest_syntax", f"{name} has carriage returns")
    try:
        value = loads(data, Limits(size=size, depth=12))
    except JsonError as error:
        raise BundleError(CODE_OF_JSON[error.kind], f"{name}: {error}") from None
    if not isinstance(value, dict):
        raise BundleError("manifest_syntax", f"{name} is not an object")
    return value


def fields(value: Mapping[str, Any], names: set[str], where: str) -> None:
    """Exactly these keys."""
    unknown = sorted(set(value) - names)
    if unknown:
        raise BundleError("manifest_unknown_field", f"{where} has a field this format does not know")
    missing = sorted(names - set(value))
    if missing:
        raise BundleError("manifest_missing_field", f"{where} lacks {missing[0]}")


def whole(value: Any, low: int, high: int, where: str, code: str = "manifest_type") -> int:
    # bool is an int to Python: `true` as a threshold would count as one.
    if type(value) is not int:
        raise BundleError("manifest_type", f"{where} is not a whole number")
    if not low <= value <= high:
        raise BundleError(code, f"{where} is outside {low} to {high}")
    return value


def text(value: Any, pattern: re.Pattern[str], where: str, code: str = "manifest_type") -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise BundleError(code, f"{where} is not written as it must be")
    return value


def _dictionary(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BundleError("manifest_type", f"{where} is not an object")
    return value


def _signatures(value: Any, where: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or len(value) > _MOST_SIGNATURES:
        raise BundleError("manifest_type", f"{where}: signatures are not a list of at most {_MOST_SIGNATURES}")
    good: dict[str, dict[str, str]] = {}
    for entry in value:
        if not isinstance(entry, dict) or set(entry) != {"keyid", "sig"}:
            continue
        key, signature = entry["keyid"], entry["sig"]
        if (
            isinstance(key, str)
            and isinstance(signature, str)
            and _HEX_64.fullmatch(key)
            and _HEX_128.fullmatch(signature)
        ):
            good.setdefault(key, {"keyid": key, "sig": signature})
    return list(good.values())


def _common(signed: dict[str, Any], extra: set[str], role: str) -> None:
    fields(signed, {"_type", "version", "spec_version", "expires"} | extra, role)
    whole(signed["version"], 1, 2**31, f"{role} version")
    text(signed["spec_version"], _SPEC_VERSION, f"{role} spec_version")
    text(signed["expires"], _MOMENT, f"{role} expires")


def _root(signed: dict[str, Any]) -> None:
    _common(signed, {"consistent_snapshot", "keys", "roles"}, "root")
    if signed["consistent_snapshot"] is not False:
        raise BundleError("manifest_type", "root: consistent_snapshot must be false on media")
    keys = _dictionary(signed["keys"], "root keys")
    if not 0 < len(keys) <= _MOST_KEYS:
        raise BundleError("manifest_type", f"root lists no keys, or more than {_MOST_KEYS}")
    for identifier, key in keys.items():
        text(identifier, _HEX_64, "a key id")
        _dictionary(key, "a key")
    roles = _dictionary(signed["roles"], "root roles")
    fields(roles, set(ROLES), "root roles")
    for name, role in roles.items():
        fields(_dictionary(role, f"role {name}"), {"keyids", "threshold"}, f"role {name}")
        whole(role["threshold"], 1, _MOST_KEYS, f"threshold of {name}")
        ids = role["keyids"]
        if (
            not isinstance(ids, list)
            or not all(isinstance(i, str) and i in keys for i in ids)
            or len(set(ids)) != len(ids)
        ):
            raise BundleError("manifest_type", f"role {name} names keys that are not listed, or one twice")


def _meta(member: str, role: str) -> Callable[[dict[str, Any]], None]:
    def check(signed: dict[str, Any]) -> None:
        _common(signed, {"meta"}, role)
        meta = _dictionary(signed["meta"], f"{role} meta")
        fields(meta, {member}, f"{role} meta")
        entry = _dictionary(meta[member], f"{role} meta")
        fields(entry, {"version", "length", "hashes"}, f"{role} meta")
        whole(entry["version"], 1, 2**31, f"{member} version")
        whole(entry["length"], 1, SIZE["targets"], f"{member} length", "size_mismatch")
        _hashes(entry["hashes"], f"{role} meta")

    return check


def _targets(signed: dict[str, Any]) -> None:
    _common(signed, {"targets", "signed_at"}, "targets")
    text(signed["signed_at"], _MOMENT, "targets signed_at")
    for path, entry in _dictionary(signed["targets"], "targets").items():
        if len(path) > _LONGEST_PATH or not _PATH.fullmatch(path):
            raise BundleError("bad_name", "the catalogue lists a file under a name that is not plain")
        fields(_dictionary(entry, path), {"length", "hashes"}, path)
        whole(entry["length"], 0, _LARGEST_FILE, f"length of {path}", "size_mismatch")
        _hashes(entry["hashes"], path)


def _hashes(value: Any, where: str) -> None:
    if not isinstance(value, dict) or set(value) != {"sha256"}:
        raise BundleError("manifest_digest", f"{where} is not described by SHA-256 alone")
    text(value["sha256"], _HEX_64, f"digest of {where}", "manifest_digest")


_SHAPES: dict[str, Callable[[dict[str, Any]], None]] = {
    "root": _root,
    "timestamp": _meta("snapshot.json", "timestamp"),
    "snapshot": _meta("targets.json", "snapshot"),
    "targets": _targets,
}
