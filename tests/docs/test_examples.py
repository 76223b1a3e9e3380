"""The examples run: the reference app from record to decision, and the conformance command against a box."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.db import connection

from inference.queue.models import Job
from inference.queue.tasks import Bench
from tests.simulators import lan as lans
from tests.simulators.lan import Lan
from tests.waiting import until

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture
def worker(lan: Lan) -> Iterator[None]:
    """Does every job that is accepted, as the queue's worker would."""
    over = threading.Event()

    def run() -> None:
        bench = Bench.here()
        while not over.wait(0.05):
            for ref in Job.objects.filter(state="queued", client=lan.client).values_list("ref", flat=True):
                bench.runner.run(bench.attempt(ref))
        bench.close()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    over.set()
    thread.join()


def conform(lan: Lan, *options: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "conformance.py"), "--base-url", lan.url, *options],
        env={"PATH": os.environ["PATH"], "ISOWARD_API_KEY": lan.key if key is None else key},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_this_box_conforms(lan: Lan, worker: None) -> None:
    done = conform(lan)
    assert done.returncode == 0, done.stdout + done.stderr
    words = [line.split("  ")[0] for line in done.stdout.splitlines()[:-1]]
    assert set(words) == {"pass"}
    assert len(words) >= 14
    assert lan.key not in done.stdout


def test_a_box_that_breaks_its_streams_does_not(lan: Lan, worker: None) -> None:
    lan.engine.behave = "close_in_the_middle"
    done = conform(lan)
    assert done.returncode == 1
    assert "FAIL  a stream is whole" in done.stdout
    assert "pass  who is not known is refused" in done.stdout


def test_a_key_without_the_task_is_told_apart_from_a_broken_box(lan: Lan) -> None:
    key = lans.new_key(f"{lan.client}-few", tasks=["visit_summary"])
    until(lambda: lan.ask("GET", "/v1/models", key=key).status == 200, 10, "the key is known")
    done = conform(lan, key=key)
    assert done.returncode == 0
    assert "skip  an answer is whole" in done.stdout
    assert "0 FAIL" in done.stdout


class Screen:
    """A browser without pictures: it follows forms and keeps nothing."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, method: str, path: str, host: str = "127.0.0.1", **form: str) -> tuple[int, str]:
        wire = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        headers = {"Host": host, "Content-Type": "application/x-www-form-urlencoded"}
        wire.request(method, path, urlencode(form) if form else None, headers)
        answer = wire.getresponse()
        text = answer.read().decode()
        wire.close()
        return answer.status, text

    def send(self, page: str, path: str, **form: str) -> tuple[int, str]:
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
        return self.ask("POST", path, **{**hidden, **form})


@pytest.fixture
def screen(lan: Lan) -> Iterator[Screen]:
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "notes_app.py"), "--base-url", lan.url, "--user", "dr.lee", "--port", "0"],
        env={"PATH": os.environ["PATH"], "ISOWARD_API_KEY": lan.key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    found = re.search(r":(\d+)/", process.stdout.readline())
    assert found
    yield Screen(int(found[1]))
    process.terminate()
    _, told = process.communicate(timeout=10)
    assert "bronchitis" not in told  # what was typed is in no log of the app's


def decisions(lan: Lan) -> list[tuple[str, str]]:
    rows = lans.audit_rows(f"client = '{lan.client}' AND action = 'draft.decided'")
    return [(row["outcome"], row["end_user"]) for row in rows]


def test_a_note_is_drafted_read_and_signed(lan: Lan, screen: Screen) -> None:
    status, page = screen.ask("GET", "/")
    assert status == 200
    status, draft = screen.send(page, "/draft", task="progress_note", age="71", diagnoses="bronchitis", plan="rest")
    assert (status, "A draft, written by a machine" in draft) == (200, True)
    assert (
        lan.engine.seen[0].fields["messages"][1]["content"]
        == '{"age": 71, "diagnoses": ["bronchitis"], "plan": "rest"}'
    )
    status, end = screen.send(draft, "/decide", verdict="accepted", text="The patient is well.")
    assert (status, "The draft was accepted" in end) == (200, True)
    assert decisions(lan) == [("accepted", "dr.lee")]
    assert screen.send(draft, "/decide", verdict="accepted", text="x")[0] == 404  # once


def test_a_letter_that_was_changed_is_told_as_edited_and_another_is_rejected(lan: Lan, screen: Screen) -> None:
    _, page = screen.ask("GET", "/")
    fields = {"task": "prior_auth_letter", "diagnoses": "bronchitis", "requested_service": "CT of the chest"}
    _, draft = screen.send(page, "/draft", **fields)
    assert "The draft was edited" in screen.send(draft, "/decide", verdict="accepted", text="The patient is unwell.")[1]
    _, other = screen.send(page, "/draft", **fields)
    assert "The draft was rejected" in screen.send(other, "/decide", verdict="rejected", text="x")[1]
    assert decisions(lan) == [("edited", "dr.lee"), ("rejected", "dr.lee")]


def test_a_refusal_is_shown_by_its_code_and_a_draft_is_never_half_shown(lan: Lan, screen: Screen) -> None:
    _, page = screen.ask("GET", "/")
    assert "record_empty" in screen.send(page, "/draft", task="progress_note")[1]
    lan.engine.behave = "close_in_the_middle"
    status, broken = screen.send(page, "/draft", task="progress_note", plan="rest")
    assert status == 502
    assert "engine_protocol" in broken
    assert "patient" not in broken


def test_what_a_model_writes_is_text_on_the_page_and_no_other_page_can_send_or_read(lan: Lan, screen: Screen) -> None:
    lan.engine.tokens = ("</textarea>", "<script>x</script>")
    _, page = screen.ask("GET", "/")
    _, draft = screen.send(page, "/draft", task="progress_note", plan="rest")
    assert "<script>" not in draft
    assert screen.ask("POST", "/draft", task="progress_note", plan="rest")[0] == 403
    assert screen.ask("GET", "/", host="evil.example")[0] == 404
