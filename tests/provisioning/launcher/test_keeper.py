"""The keeper follows its order, says what it does, and leaves nothing running: not even when it is killed."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from tests.provisioning.launcher.conftest import Slot
from tests.simulators.fake_engine import NAP
from tests.waiting import until


def running() -> list[str]:
    """The command lines of every fake engine and child of one on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if f"time.sleep({NAP})" in text or "vllm.entrypoints.cli.main serve" in text:
            found.append(text)
    return found


def mine(slot: Slot) -> list[str]:
    return [text for text in running() if str(slot.engine.home) in text or str(slot.site.run_dir) in text]


def test_a_slot_runs_what_its_order_says_and_is_empty_without_one(slot: Slot) -> None:
    slot.keep()
    until(lambda: slot.report.get("state") == "running", 20, "the engine listens")
    report = slot.report
    assert (report["deployment"], report["code"], report["slot"]) == (1, "", "a")
    assert report["verified_bytes"] > 0
    assert report["pid"] > 0
    assert slot.site.engine_socket("a").stat().st_mode & 0o007 == 0
    assert mine(slot)
    slot.order.path.unlink()
    until(lambda: slot.report.get("state") == "exited", 20, "the slot is empty")
    assert not mine(slot)
    assert not slot.site.engine_socket("a").exists()


def test_a_slot_without_an_order_starts_nothing(slot: Slot) -> None:
    slot.order.path.unlink()
    keeper = slot.keep()
    until(lambda: _listens_to_sigterm(keeper.pid), 20, "the keeper is up")
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(20) == 0
    assert not slot.engine.mark.exists()


def _listens_to_sigterm(process: int) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_another_order_replaces_the_engine(slot: Slot) -> None:
    slot.keep()
    until(lambda: slot.report.get("state") == "running", 20, "the first engine listens")
    slot.engine.mark.unlink()
    slot.order.facts["version"] = 2
    slot.order.sign().order["deployment"] = 2
    slot.order.write()
    until(lambda: (slot.report.get("deployment"), slot.report.get("state")) == (2, "running"), 20, "the second listens")
    assert slot.engine.mark.exists()
    assert len([text for text in mine(slot) if "vllm" in text]) == 1


def test_a_refused_order_says_why_and_a_good_one_after_it_is_started(slot: Slot) -> None:
    slot.order.order["approvals"].pop()
    slot.order.write()
    slot.keep()
    until(lambda: slot.report.get("state") == "refused", 20, "the order is refused")
    assert slot.report["code"] == "approval_quorum"
    assert "1 of 2" in slot.report["message"]
    assert not slot.engine.mark.exists()
    slot.order.sign().write()
    until(lambda: slot.report.get("state") == "running", 20, "the good order runs")


def test_an_engine_that_will_not_end_is_ended_with_all_it_started(slot: Slot) -> None:
    slot.engine.behave("stubborn")
    keeper = slot.keep()
    until(lambda: slot.report.get("state") == "running", 20, "the engine listens")
    assert len(mine(slot)) == 2
    keeper.send_signal(signal.SIGTERM)
    keeper.wait(40)
    assert not mine(slot)


def test_no_engine_outlives_a_keeper_that_was_killed(slot: Slot) -> None:
    slot.engine.behave("stubborn")
    keeper = slot.keep()
    until(lambda: slot.report.get("state") == "running", 20, "the engine listens")
    assert len(mine(slot)) == 2
    keeper.kill()
    keeper.wait(10)
    until(lambda: not mine(slot), 10, "nothing is left")
    slot.engine.behave("serve")
    slot.keep()
    until(lambda: slot.report.get("state") == "running" and mine(slot), 20, "a new keeper starts it again")


def test_no_guard_outlives_a_keeper_that_was_killed_while_it_verified(slot: Slot) -> None:
    keeper = slot.keep()
    until(lambda: slot.report.get("state") is not None, 20, "the keeper has begun")
    keeper.kill()
    keeper.wait(10)
    order = str(slot.order.path)
    until(lambda: not _holding(order), 10, "no launcher is left")


def _holding(text: str) -> list[str]:
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in found.splitlines() if text in line]


def test_an_engine_that_ends_is_reported_with_its_status(slot: Slot) -> None:
    slot.engine.behave("end")
    slot.keep()
    until(lambda: slot.report.get("state") == "exited", 20, "the engine has ended")
    assert slot.report["code"] == "engine_exited"
    assert slot.report["message"] == "the engine ended with status 5 (ValueError)"


def test_a_slot_has_one_keeper(slot: Slot) -> None:
    slot.keep()
    until(lambda: slot.report.get("state") == "running", 20, "the engine listens")
    second = slot.keep()
    assert second.wait(20) == 1
    assert slot.report["state"] == "running"
    assert len([text for text in mine(slot) if "vllm" in text]) == 1


def test_nothing_an_engine_prints_about_a_patient_is_kept(slot: Slot) -> None:
    slot.engine.behave("chatty")
    slot.keep()
    until(lambda: slot.report.get("state") == "running", 20, "the engine listens")
    until(lambda: slot.log.count("Application startup complete") == 2, 10, "its output was read")
    kept = slot.log
    assert "CANARY" not in kept
    assert "\x1b" not in kept
    assert "site-packages/vllm/x.py:3" in kept
    assert "WARNING 11-22 10:52:53 [system_utils.py:255] dropped:" in kept
    for path in slot.site.slots_dir.rglob("*.json"):
        assert "CANARY" not in path.read_text()


def test_a_report_is_whole_json_whenever_it_is_read(slot: Slot) -> None:
    slot.keep()
    path = slot.site.slots_dir / "a" / "report.json"
    until(path.exists, 20, "there is a report")
    until(lambda: json.loads(path.read_bytes())["state"] == "running", 20, "it ends in running")
