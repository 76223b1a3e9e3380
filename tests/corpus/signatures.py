"""Group B: manifest, signatures, versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.corpus.case import Spoil, bad, each
from tests.simulators.bundle_maker import NOW, BundleMaker


def _bytes(change: Callable[[bytes], bytes], name: str = "timestamp") -> Spoil:
    def spoil(maker: BundleMaker) -> None:
        path = maker.medium / "metadata" / f"{name}.json"
        path.write_bytes(change(path.read_bytes()))

    return spoil


each(
    24,
    "manifest_syntax",
    empty=_bytes(lambda _: b""),
    not_json=_bytes(lambda _: b"version: 7"),
    byte_order_mark=_bytes(lambda data: b"\xef\xbb\xbf" + data),
    utf16=_bytes(lambda data: data.decode().encode("utf-16")),
    carriage_returns=_bytes(lambda data: data.replace(b"\n", b"\r\n")),
    trailing_garbage=_bytes(lambda data: data + b"x"),
    two_documents=_bytes(lambda data: data + data),
    an_array=_bytes(lambda _: b"[]"),
    a_key_twice=_bytes(lambda data: data.replace(b'"signed": {', b'"signed": {}, "signed": {', 1)),
    too_deep=_bytes(lambda _: b'{"signed":' * 5_000),
    in_the_manifest=lambda maker: _manifest_bytes(maker, b'{"name": "demo"} {}'),
)
each(29, "manifest_size", metadata_of_64_mb=_bytes(lambda _: b" " * 64_000_000))


def _manifest_bytes(maker: BundleMaker, data: bytes) -> None:
    maker.files["manifest.json"] = data
    maker.sign()


def _number(text: bytes) -> Spoil:
    return lambda maker: _manifest_bytes(
        maker, json.dumps(maker.manifest).encode().replace(b'"version": 7', b'"version": ' + text)
    )


each(
    27,
    "manifest_type",
    fraction=_number(b"7.0"),
    exponent=_number(b"1e2"),
    minus_zero=_number(b"-0"),
    two_to_the_63=_number(b"9223372036854775808"),
    five_thousand_digits=_number(b"9" * 5000),
    true_as_version=_number(b"true"),
    text_as_version=_number(b'"7"'),
    nan=_number(b"NaN"),
)


def _signed(name: str, change: Callable[[dict[str, Any]], None]) -> Spoil:
    """Alter the signed part of a document; whether anybody signed that is asked later than what it looks like."""

    def spoil(maker: BundleMaker) -> None:
        value = maker.document(name)
        change(value["signed"])
        maker.write_document(name, value)

    return spoil


def _target(entry: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    def change(signed: dict[str, Any]) -> None:
        signed["targets"]["demo/config.json"] = entry

    return change


def _digest(text: str, name: str = "sha256") -> Spoil:
    return _resigned_targets(_target({"length": 5, "hashes": {name: text}}))


def _resigned_targets(change: Callable[[dict[str, Any]], None]) -> Spoil:
    """Alter targets.json and bind it anew in snapshot and timestamp, so that its own form is what gets refused."""

    def spoil(maker: BundleMaker) -> None:
        value = maker.document("targets")
        change(value["signed"])
        maker.write_document("targets", value)
        maker.rebind()

    return spoil


each(
    26,
    "manifest_unknown_field",
    top_level=_signed("timestamp", lambda signed: signed.update(custom={})),
    in_a_file_entry=_resigned_targets(_target({"length": 5, "hashes": {"sha256": "0" * 64}, "custom": {}})),
    in_the_manifest=lambda maker: _manifest(maker, files={}),
)
each(
    27,
    "manifest_type",
    true_as_a_threshold=lambda maker: _next_root(maker, lambda root: root["roles"]["targets"].update(threshold=True)),
    true_as_a_metadata_version=_signed("timestamp", lambda signed: signed.update(version=True)),
)
each(
    30,
    "manifest_digest",
    short=_digest("0" * 63),
    long=_digest("0" * 65),
    upper_case=_digest("A" * 64),
    a_path=_digest("../" * 21 + "a"),
    empty=_digest(""),
    not_hex=_digest("g" * 64),
    sha1=_digest("0" * 40, "sha1"),
    sha1_in_front=_digest("sha1:" + "0" * 59),
)
each(
    32,
    "size_mismatch",
    negative=_resigned_targets(_target({"length": -1, "hashes": {"sha256": "0" * 64}})),
    empty_weights=lambda maker: _file(maker, "model.safetensors", b""),
)
each(
    9,
    "bad_name",
    dots_in_the_catalogue=_resigned_targets(
        lambda s: s["targets"].update({"demo/../x": s["targets"]["demo/config.json"]})
    ),
)


def _manifest(maker: BundleMaker, **fields: Any) -> None:
    maker.manifest.update(fields)
    maker.sign()


def _file(maker: BundleMaker, name: str, data: bytes) -> None:
    maker.files[name] = data
    maker.sign()


def _signatures(change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> Spoil:
    def spoil(maker: BundleMaker) -> None:
        value = maker.document("targets")
        value["signatures"] = change(value["signatures"])
        maker.write_document("targets", value)
        maker.rebind()

    return spoil


each(
    33,
    "signature_threshold",
    none=_signatures(lambda _: []),
    one_of_two=_signatures(lambda found: found[:1]),
    one_repeated=_signatures(lambda found: [found[0], found[0]]),
    one_under_both_ids=_signatures(lambda found: [found[0], found[0] | {"keyid": found[1]["keyid"]}]),
    one_and_one_malformed=_signatures(lambda found: [found[0], {"keyid": found[1]["keyid"], "sig": "zz"}]),
    one_and_a_stranger=_signatures(lambda found: [found[0], found[1] | {"keyid": "0" * 64}]),
    exchanged=_signatures(lambda found: [found[0] | {"sig": found[1]["sig"]}, found[1] | {"sig": found[0]["sig"]}]),
)


@bad(33, "signature_threshold")
def one_changed_number_under_good_signatures(maker: BundleMaker) -> None:
    value = maker.document("timestamp")
    value["signed"]["version"] += 1
    maker.write_document("timestamp", value)


@bad(35, "signature_context")
def a_genuine_root_in_place_of_a_timestamp(maker: BundleMaker) -> None:
    maker.write_document("timestamp", maker.document("1.root"))


@bad(35, "signature_context")
def a_genuine_snapshot_in_place_of_a_timestamp(maker: BundleMaker) -> None:
    maker.write_document("timestamp", maker.document("snapshot"))


def _next_root(maker: BundleMaker, change: Callable[[dict[str, Any]], None], *, signers: int = 2) -> None:
    maker.write_next_root(change, by=maker.publishers[:signers])


@bad(38, "key_role")
def signed_by_a_key_of_another_role(maker: BundleMaker) -> None:
    """Root 2 gives targets to new people; one of the old, still a timestamp key, signs targets all the same."""
    maker.hand_targets_to_others(keep_old_in_timestamp=True)


@bad(38, "key_revoked")
def signed_by_a_key_that_was_withdrawn(maker: BundleMaker) -> None:
    maker.hand_targets_to_others(keep_old_in_timestamp=False)


@bad(38, "root_expired")
def an_expired_root(maker: BundleMaker) -> None:
    _next_root(maker, lambda root: root.update(expires="2027-02-15T00:00:00Z"))


@bad(38, "metadata_expired")
def an_expired_catalogue(maker: BundleMaker) -> None:
    maker.sign(expires=NOW - timedelta(days=1))


@bad(41, "catalogue_rollback")
def an_older_catalogue(maker: BundleMaker) -> None:
    before = maker.snapshot_of_medium()
    maker.sign()
    maker.receive(keep=True)
    maker.restore_medium(before)


@bad(41, "catalogue_fork")
def the_same_catalogue_number_with_other_content(maker: BundleMaker) -> None:
    before = maker.snapshot_of_medium()
    maker.manifest["title"] = "one"
    maker.sign()
    maker.receive(keep=True)
    maker.restore_medium(before)
    maker.manifest["title"] = "two"
    maker.sign()
    maker.rebind()
    maker.rebind()


@bad(41, "catalogue_removed")
def a_bundle_no_longer_listed(maker: BundleMaker) -> None:
    maker.remember("other-model", 3)


@bad(42, "rollback")
def an_older_bundle_in_a_newer_catalogue(maker: BundleMaker) -> None:
    maker.receive(keep=True)
    maker.manifest["version"] -= 1
    maker.sign()


each(
    44,
    "incompatible",
    architecture=lambda maker: _manifest(maker, architecture="EvilForCausalLM"),
    needs_a_newer_appliance=lambda maker: _manifest(maker, min_appliance_version="99.0.0"),
    quantization=lambda maker: _manifest(maker, quantization="magic"),
)
each(45, "digest_mismatch", manifest_of_another_bundle=lambda maker: _manifest(maker, name="other"))


def _without(name: str) -> Spoil:
    def spoil(maker: BundleMaker) -> None:
        del maker.manifest[name]
        maker.sign()

    return spoil


each(
    48,
    "manifest_missing_field",
    **{f"no_{name}": _without(name) for name in ("license", "intended_use", "quantization", "source", "converter")},
    empty_license=lambda maker: _manifest(maker, license="  "),
)


@bad(39, "root_chain")
def root_two_signed_only_by_old_keys(maker: BundleMaker) -> None:
    maker.rotate_root(signed_by_old=True, signed_by_new=False)


@bad(39, "root_chain")
def root_two_signed_only_by_new_keys(maker: BundleMaker) -> None:
    maker.rotate_root(signed_by_old=False, signed_by_new=True)


@bad(39, "root_chain")
def root_three_directly(maker: BundleMaker) -> None:
    maker.write_next_root(lambda root: root.update(version=3), by=maker.publishers, name="3.root")


@bad(39, "root_chain")
def root_three_in_the_place_of_two(maker: BundleMaker) -> None:
    maker.write_next_root(lambda root: root.update(version=3), by=maker.publishers)


@bad(39, "root_chain")
def root_one_again_in_the_place_of_two(maker: BundleMaker) -> None:
    maker.write_next_root(lambda root: root.update(version=1), by=maker.publishers)


@bad(39, "root_chain")
def root_one_with_other_content(maker: BundleMaker) -> None:
    maker.write_next_root(
        lambda root: root.update(version=1, expires="2036-01-01T00:00:00Z"), by=maker.publishers, name="1.root"
    )


@bad(39, "root_chain")
def root_two_that_lets_one_key_sign(maker: BundleMaker) -> None:
    _next_root(maker, lambda root: root["roles"]["targets"].update(threshold=1))


def _small_order(root: dict[str, Any]) -> None:
    from provisioning.bundle.keys import key_id  # noqa: PLC0415 - the product's id for a key the product refuses

    raw = bytes(32)
    root["keys"][key_id(raw)] = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": raw.hex()}}
    root["roles"]["targets"]["keyids"].append(key_id(raw))


each(36, "trust_store_invalid", all_zero_key_in_root_two=lambda maker: _next_root(maker, _small_order))
