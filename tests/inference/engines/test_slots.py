"""The two files of a slot: whole or absent, the same rows the same bytes, and a report only where it is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inference.engines import slots
from inference.engines.errors import SlotError
from provisioning.approval import Approval, ChangeFacts, RosterEntry

CHANGE = ChangeFacts(7, "release.activate", "d" * 64, {"release": "d" * 64, "arguments": ["--seed", "0"]}, "alice", 2)
APPROVALS = [Approval("carol", "2" * 16, b"\x02" * 64), Approval("bob", "1" * 16, b"\x01" * 64)]
ROSTER = [RosterEntry("bob", "1" * 16, b"\x03" * 32, b"\x04" * 32)]


def order(approvals: list[Approval] = APPROVALS) -> bytes:
    return slots.order(slot="a", deployment=3, change=CHANGE, approvals=approvals, roster=ROSTER)


def test_an_order_holds_what_the_launcher_must_check_and_nothing_else() -> None:
    body = json.loads(order())
    assert body["format"] == "isoward-launch-order-v1"
    assert body["slot"] == "a"
    assert body["deployment"] == 3
    assert body["change"]["digest"] == CHANGE.digest
    assert [item["approver"] for item in body["approvals"]] == ["bob", "carol"]
    assert body["roster"][0]["mac"] == (b"\x04" * 32).hex()
    assert set(body) == {"format", "slot", "deployment", "change", "approvals", "roster"}


def test_the_same_rows_give_the_same_bytes_in_whatever_order_they_come() -> None:
    assert order(APPROVALS) == order(list(reversed(APPROVALS)))


def test_an_unchanged_order_is_not_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    assert slots.give(folder, order())
    before = (folder / "order.json").stat()
    assert not slots.give(folder, order())
    after = (folder / "order.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert slots.give(folder, order(APPROVALS[:1]))
    assert (folder / "order.json").read_bytes() == order(APPROVALS[:1])
    assert (folder / "order.json").stat().st_mode & 0o777 == 0o640


def test_a_half_written_order_of_a_killed_supervisor_is_never_the_order(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    slots.give(folder, order())
    for left_over in folder.glob("*.new"):
        pytest.fail(f"left behind: {left_over.name}")
    assert sorted(entry.name for entry in folder.iterdir()) == ["order.json"]


def test_a_withdrawn_order_leaves_an_empty_slot(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    assert not slots.withdraw(folder)
    slots.give(folder, order())
    assert slots.withdraw(folder)
    assert not (folder / "order.json").exists()


def test_a_report_is_read_and_its_absence_is_no_error(tmp_path: Path) -> None:
    assert slots.report(tmp_path) is None
    (tmp_path / "report.json").write_text(
        json.dumps(
            {"deployment": 3, "state": "refused", "code": "file_changed", "message": "model.safetensors", "pid": 0}
        )
    )
    assert slots.report(tmp_path) == slots.Report(3, "refused", "file_changed", "model.safetensors")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"deployment": 3}',
        b'{"deployment": "x", "state": "running"}',
        b'{"deployment": 3, "state": "dancing"}',
        b"\xff" * 80_000,
    ],
)
def test_what_no_keeper_writes_is_not_a_report(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "report.json").write_bytes(raw)
    with pytest.raises(SlotError):
        slots.report(tmp_path)
