"""Attacks on trust by name, each beside the honest case it imitates: T01, T03, T05, T09, T47."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from provisioning.bundle import BundleError, TrustState, initial
from provisioning.bundle.pack import Publisher
from tests.simulators.bundle_maker import EXPIRES, NOW, SIGNED, BundleMaker


def refused(maker: BundleMaker, now: datetime = NOW) -> str:
    with pytest.raises(BundleError) as caught:
        maker.receive(now=now)
    return caught.value.code


def test_two_of_three_publishers_are_enough_and_one_is_not(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path, publishers=3)
    maker.sign(by=1)
    assert refused(maker) in {"digest_mismatch", "signature_threshold"}
    maker.repository.sign(maker.publishers[2])
    assert maker.receive().verdict.ok


def test_a_malformed_signature_beside_two_good_ones_is_ignored(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    value = maker.document("timestamp")
    value["signatures"] += [{"keyid": "0" * 64, "sig": "not hex"}, {"other": 1}, "text"]
    maker.write_document("timestamp", value)
    assert maker.receive().verdict.ok


def test_an_older_bundle_is_refused_after_a_newer_one_and_the_same_one_is_not(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    old = maker.snapshot_of_medium()
    maker.manifest["version"] += 1
    maker.sign()
    maker.receive(keep=True)
    maker.receive(keep=True)
    maker.restore_medium(old)
    assert refused(maker) == "catalogue_rollback"


def test_a_lost_or_spoiled_record_of_floors_is_a_refusal_not_a_fresh_start(tmp_path: Path) -> None:
    kept = BundleMaker(tmp_path).receive().trust.to_dict()
    assert TrustState.from_dict(kept).bundle_versions == {"demo": 7}
    for spoiled in ({}, kept | {"bundle_versions": None}, kept | {"time_floor": "soon"}, kept | {"root": None}):
        with pytest.raises(BundleError) as caught:
            TrustState.from_dict(spoiled)
        assert caught.value.code == "floor_unavailable"


def test_two_files_of_equal_length_exchanged_between_two_bundles_are_refused(tmp_path: Path) -> None:
    one, two = BundleMaker(tmp_path / "one"), BundleMaker(tmp_path / "two")
    two.files["chat_template.jinja"] = one.files["chat_template.jinja"].replace(b"im_start", b"im_begin")
    two.sign()
    (one.tree / "chat_template.jinja").write_bytes((two.tree / "chat_template.jinja").read_bytes())
    assert refused(one) == "digest_mismatch"
    assert two.receive().verdict.ok


def test_stolen_keys_are_useless_after_the_root_has_left_them(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    fresh = maker.rotate_root(signed_by_old=True, signed_by_new=True)
    assert refused(maker) == "key_revoked"
    for name in ("targets", "snapshot", "timestamp"):
        (maker.medium / "metadata" / f"{name}.json").unlink()
    maker.publishers = fresh
    maker.sign()
    received = maker.receive(keep=True)
    assert received.verdict.checks[0].detail.startswith("root 2")


def test_a_chain_of_roots_is_walked_to_its_end_and_a_refused_step_changes_nothing(tmp_path: Path) -> None:
    """CVE-2020-15163: a failed step of the chain, tried again, must fail again."""
    maker = BundleMaker(tmp_path)
    maker.rotate_root(signed_by_old=True, signed_by_new=False)
    assert refused(maker) == "root_chain"
    assert refused(maker) == "root_chain"
    maker.write_next_root(lambda _: None, by=maker.publishers)
    maker.write_next_root(lambda root: root.update(version=3), by=maker.publishers, name="3.root")
    received = maker.receive(keep=True)
    assert received.verdict.checks[0].detail.startswith("root 3")
    assert initial(received.trust.root).root == received.trust.root


def test_a_gap_in_the_chain_of_roots_is_refused(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    maker.write_next_root(lambda root: root.update(version=4), by=maker.publishers, name="4.root")
    assert refused(maker) == "root_chain"


def test_a_medium_without_the_newest_root_is_read_with_the_one_we_hold(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    maker.write_next_root(lambda _: None, by=maker.publishers)
    maker.receive(keep=True)
    (maker.medium / "metadata" / "2.root.json").unlink()
    assert maker.receive().verdict.ok


@pytest.mark.parametrize("clock", [datetime(1970, 1, 1, tzinfo=UTC), NOW])
def test_a_clock_set_back_does_not_revive_what_has_expired(tmp_path: Path, clock: datetime) -> None:
    maker = BundleMaker(tmp_path)
    kept = maker.trust.to_dict() | {"time_floor": (EXPIRES + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")}
    maker.trust = TrustState.from_dict(kept)
    assert refused(maker, clock) == "root_expired"


def test_the_floor_of_time_rises_by_what_publishers_signed_and_not_by_the_clock(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    assert maker.receive(now=EXPIRES - timedelta(days=1)).trust.time_floor == SIGNED


def test_expiry_is_the_first_moment_that_no_longer_counts(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    assert maker.receive(now=EXPIRES - timedelta(seconds=1)).verdict.ok
    assert refused(maker, EXPIRES) == "root_expired"


def test_a_root_of_strangers_is_not_ours_however_well_it_is_signed(tmp_path: Path) -> None:
    ours, theirs = BundleMaker(tmp_path / "ours"), BundleMaker(tmp_path / "theirs")
    theirs.trust = ours.trust
    assert refused(theirs) == "root_chain"
    (theirs.medium / "metadata" / "1.root.json").unlink()
    assert refused(theirs) == "signature_threshold"


def test_a_signature_by_a_person_the_root_does_not_know_adds_nothing(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    maker.sign(by=1)
    assert maker.repository.sign(Publisher.generate("mallory")) == []
    assert refused(maker) in {"digest_mismatch", "signature_threshold"}
