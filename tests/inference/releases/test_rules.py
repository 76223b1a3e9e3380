"""Floors, versions, slots and drains, as pure decisions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from inference.releases import rules
from inference.releases.errors import (
    ActivationRefusedError,
    FloorUnavailableError,
    ImportRefusedError,
    RollbackRefusedError,
)
from inference.releases.rules import Standing
from provisioning.bundle.trust import TrustState

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def root(version: int) -> bytes:
    return json.dumps({"signed": {"version": version}}).encode()


def state(number: int) -> TrustState:
    return TrustState(
        root=root(number),
        timestamp_version=number,
        snapshot_version=number,
        targets_version=number,
        time_floor=NOON + timedelta(days=number),
        bundle_versions={"clinical": number},
        targets_sha256=f"{number}" * 64,
    )


ANCHOR = replace(state(1), timestamp_version=0, snapshot_version=0, targets_version=0, bundle_versions={})
ONE = Standing("1" * 64, "clinical", 1)
TWO = Standing("2" * 64, "clinical", 2)
OTHER = Standing("3" * 64, "radiology", 1)


@pytest.mark.parametrize(("row", "file"), [(state(3), state(2)), (state(2), state(3))])
def test_the_higher_of_two_records_wins_in_every_field(row: TrustState, file: TrustState) -> None:
    assert rules.floors(row=row, file=file, anchor=ANCHOR, has_releases=True) == state(3)


def test_each_bundle_keeps_its_own_highest_version_from_either_record() -> None:
    row = replace(state(2), bundle_versions={"clinical": 7, "radiology": 1})
    file = replace(state(2), bundle_versions={"clinical": 5, "pathology": 9})
    merged = rules.floors(row=row, file=file, anchor=ANCHOR, has_releases=True)
    assert merged.bundle_versions == {"clinical": 7, "radiology": 1, "pathology": 9}


def test_a_box_without_releases_starts_from_its_delivered_root() -> None:
    assert rules.floors(row=None, file=None, anchor=ANCHOR, has_releases=False) == ANCHOR


def test_a_copy_left_on_disk_counts_even_when_the_database_was_emptied() -> None:
    assert rules.floors(row=None, file=state(3), anchor=ANCHOR, has_releases=False).targets_version == 3


@pytest.mark.parametrize(("row", "file"), [(None, state(3)), (state(3), None), (None, None)])
def test_a_box_with_releases_and_without_a_record_accepts_nothing(
    row: TrustState | None, file: TrustState | None
) -> None:
    with pytest.raises(FloorUnavailableError) as refused:
        rules.floors(row=row, file=file, anchor=ANCHOR, has_releases=True)
    assert refused.value.code == "floor_unavailable"


@pytest.mark.parametrize(
    "bad", [b"", b"[]", b'{"signed":{}}', b'{"signed":{"version":true}}', b'{"signed":{"version":"2"}}']
)
def test_a_root_without_a_readable_version_is_no_record(bad: bytes) -> None:
    with pytest.raises(FloorUnavailableError):
        rules.root_version(bad)
    assert rules.root_version(root(4)) == 4


def test_only_media_folders_are_media() -> None:
    roots = [Path("/media"), Path("/srv/usb")]
    rules.check_medium(Path("/media/usb0"), roots=roots)
    rules.check_medium(Path("/srv/usb"), roots=roots)
    for outside in ("/etc", "/", "/mediator", "/srv"):
        with pytest.raises(ImportRefusedError) as refused:
            rules.check_medium(Path(outside), roots=roots)
        assert refused.value.code == "media_unknown"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-rf", ".hidden", "café", "a" * 64, "A", "a\n"])
def test_a_name_that_is_not_one_plain_word_is_no_bundle(name: str) -> None:
    rules.check_bundle_name("clinical-notes-1")
    with pytest.raises(ImportRefusedError) as refused:
        rules.check_bundle_name(name)
    assert refused.value.code == "bad_name"


def test_forward_is_an_activation_and_backward_is_not() -> None:
    rules.check_may_activate(TWO, serving=ONE)
    rules.check_may_activate(ONE, serving=None)
    with pytest.raises(ActivationRefusedError) as refused:
        rules.check_may_activate(ONE, serving=TWO)
    assert refused.value.code == "rollback"


def test_another_model_may_replace_this_one_whatever_its_number() -> None:
    rules.check_may_activate(OTHER, serving=TWO)


def test_what_serves_already_is_not_activated_again() -> None:
    with pytest.raises(ActivationRefusedError) as refused:
        rules.check_may_activate(ONE, serving=ONE)
    assert refused.value.code == "already_serving"


def test_going_back_leads_only_to_what_served_before() -> None:
    rules.check_may_roll_back(ONE, serving=TWO, served_before={ONE.digest, TWO.digest})
    with pytest.raises(RollbackRefusedError) as refused:
        rules.check_may_roll_back(OTHER, serving=TWO, served_before={ONE.digest, TWO.digest})
    assert refused.value.code == "never_served"
    with pytest.raises(RollbackRefusedError) as refused:
        rules.check_may_roll_back(ONE, serving=None, served_before={ONE.digest})
    assert refused.value.code == "nothing_serving"


@pytest.mark.parametrize(
    ("live", "slot"),
    [({}, "a"), ({"serving": "a"}, "b"), ({"serving": "b"}, "a"), ({"serving": "a", "draining": "b"}, "b")],
)
def test_the_next_deployment_never_takes_the_serving_slot(live: dict[str, str], slot: str) -> None:
    assert rules.free_slot(live) == slot


def test_two_releases_do_not_start_at_once() -> None:
    with pytest.raises(ActivationRefusedError) as refused:
        rules.free_slot({"serving": "a", "starting": "b"})
    assert refused.value.code == "activation_running"


@pytest.mark.parametrize(
    ("waited_s", "running", "over"),
    [(1, 0, False), (6, 0, True), (6, 2, False), (6, None, False), (119, 1, False), (121, 1, True), (121, None, True)],
)
def test_a_drain_ends_when_nothing_runs_or_its_time_is_over(waited_s: int, running: int | None, *, over: bool) -> None:
    assert rules.drain_over(now=NOON + timedelta(seconds=waited_s), since=NOON, running=running) is over
