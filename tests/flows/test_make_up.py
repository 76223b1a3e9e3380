"""What `make up` shows is true: the answer came from the approved release and left a verified trail."""

from __future__ import annotations

from provisioning.evaluation import request
from tests.box import RESTART_S, Box
from tests.waiting import until


def test_the_summary_holds_the_answer_and_everything_behind_it(box: Box) -> None:
    summary = box.summary
    assert summary["ok"] is True
    assert summary["answer"]
    assert summary["receipt"]["release_digest"] == summary["release_digest"]
    assert summary["receipt"]["dropped_fields"] == ["telephone"]
    assert summary["approvers"] == ["bob", "carol"]
    assert summary["audit_verified"] is True
    assert {step["name"] for step in summary["steps"]} >= {"verify the audit trail behind the answer"}
    assert all(step["seconds"] >= 0 for step in summary["steps"])


def test_the_records_behind_the_answer_are_the_intent_and_then_the_outcome(box: Box) -> None:
    kinds = [row["kind"] for row in box.summary["audit"]["records"]]
    assert kinds == ["intent", "outcome"]


def test_no_secret_of_the_site_can_be_read_by_others(box: Box) -> None:
    private = [box.layout.people, box.layout.base / "api-key", *box.site.secrets_dir.iterdir()]
    assert len(private) > 5
    assert [path for path in private if path.stat().st_mode & 0o077] == []


def test_the_patients_record_is_in_no_log(box: Box) -> None:
    for path in box.layout.logs.iterdir():
        text = path.read_text(encoding="utf-8", errors="replace")
        assert "continuous glucose monitoring" not in text, path
        assert str(request.RECORD["telephone"]) not in text, path
        assert box.api_key not in text, path


def test_a_killed_door_is_back_and_answers_again(box: Box) -> None:
    for name in ("console", "api"):
        old = box.kill(name)
        box.wait_restarted(name, old)
    status, models = box.until_answered("GET", "/v1/models")
    assert status == 200
    assert models["data"]


def test_nothing_listens_but_the_two_doors_on_loopback(box: Box) -> None:
    doors = {("127.0.0.1", box.layout.console_port), ("127.0.0.1", box.layout.api_port)}
    # A door that another test killed may still be on its way back.
    until(lambda: box.listening() == doors, RESTART_S, "the two doors listen, and nothing else")
