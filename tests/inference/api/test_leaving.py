"""Whoever leaves stops the engine, at every door that answers, and the log says `client_gone`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.inference.api.test_audio import EDGE, form
from tests.simulators import lan as lans
from tests.simulators.lan import MODEL, Lan
from tests.waiting import until

CONVERSATION = {"task": "conversation", "purpose": "TREAT"}
DOORS: dict[str, tuple[str, Any]] = {
    "completion": ("/v1/completions", {"prompt": "Cough", "metadata": CONVERSATION}),
    "streamed completion": ("/v1/completions", {"prompt": "Cough", "metadata": CONVERSATION, "stream": True}),
    "embedding": ("/v1/embeddings", {"input": "Cough", "metadata": {"task": "embedding", "purpose": "TREAT"}}),
    "response": ("/v1/responses", {"input": "Cough", "metadata": CONVERSATION}),
    "streamed response": ("/v1/responses", {"input": "Cough", "metadata": CONVERSATION, "stream": True}),
    "task": ("/v1/tasks/progress_note", {"record": {"plan": "rest"}, "purpose": "TREAT"}),
    "transcription": ("/v1/audio/transcriptions", form()),
}


@pytest.mark.parametrize(("path", "body"), DOORS.values(), ids=list(DOORS))
def test_leaving_stops_the_engine_and_is_on_record(lan: Lan, path: str, body: Any) -> None:
    lan.engine.tokens, lan.engine.pause_s = ("x ",) * 200, 30 if isinstance(body, bytes) or "input" in body else 0.05
    if isinstance(body, bytes):
        lan.leave_while_it_works(path, body, f"multipart/form-data; boundary={EDGE}")
    else:
        lan.leave_while_it_works(path, json.dumps({"model": MODEL, **body}).encode())
    until(lambda: lan.engine.seen[0].cut, 2, "the engine was hung up on")
    (outcome,) = until(
        lambda: lans.audit_rows(f"client = '{lan.client}' AND kind = 'outcome'"), 5, "the outcome is on record"
    )
    assert outcome["outcome"] == "client_gone"
    assert outcome["output_tokens"] < 200
