"""Does this box keep its word? What an app relies on, asked of a running box, one line for each thing.

    ISOWARD_API_KEY=iwk_... python conformance.py --base-url https://box.hospital/v1

Needs Python 3.11 and nothing else. Sends only made-up records, labelled synthetic. Leaves some answers and one cancelled
job on the box's record, under the key it was given. Ends with 0 when nothing failed; a thing the key is not granted is
skipped and named.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import secrets
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

WAIT_S = 60.0
EXAMPLES: Mapping[str, Any] = {
    "age": 58,
    "sex": "male",
    "language": "en",
    "diagnoses": ["essential hypertension"],
    "codes": ["I10"],
    "medications": ["lisinopril 10 mg"],
    "lab_values": {"potassium": 4.2},
    "date": "2026-03-02",
    "time": "09:30",
    "vital_signs": {"pulse": 72},
}
"""Made up. A field that is not here is sent as a short text."""


class NotMetError(Exception):
    """The box did something else than it promises."""


class SkippedError(Exception):
    """The key is not granted what this would need."""


@dataclass
class Reply:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def must(self, status: int, code: str = "") -> Any:
        """The body, when the answer is this one; and every refusal has OpenAI's shape and its request id."""
        if self.status != status:
            raise NotMetError(f"{status} expected, {self.status} came: {self.body[:300].decode(errors='replace')}")
        if code:
            error = self.json["error"]
            if set(error) != {"message", "type", "param", "code", "request_id"} or error["code"] != code:
                raise NotMetError(f"code {code} expected in OpenAI's shape, this came: {error}")
            if error["request_id"] != self.headers.get("x-request-id"):
                raise NotMetError("the refusal and its header name two request ids")
        return self.json


@dataclass
class Box:
    """The box under test, and how it is asked."""

    url: str
    key: str
    task: str
    purpose: str
    ca_file: str | None = None

    def connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca_file)
            return http.client.HTTPSConnection(parts.netloc, timeout=WAIT_S, context=context)
        return http.client.HTTPConnection(parts.netloc, timeout=WAIT_S)

    def send(
        self, wire: http.client.HTTPConnection, method: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> None:
        sent = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **headers}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        wire.request(method, path, data, {name: value for name, value in sent.items() if value})

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """`path` is below /v1; a header's name is written with underscores, and an empty one is left out."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(self.connect()) as wire:
            self.send(wire, method, self.below(path), body, named)
            answer = wire.getresponse()
            return Reply(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())

    def below(self, path: str) -> str:
        return path if path.startswith("/") else f"{urlsplit(self.url).path.rstrip('/')}/{path}"

    def record(self) -> dict[str, Any]:
        task = self.ask("GET", f"tasks/{self.task}").must(200)
        if not task["granted"]:
            raise SkippedError(f"this key is not granted the task {self.task}")
        return {name: EXAMPLES.get(name, "none to report") for name in task["fields"]}

    def chat(self, **changes: Any) -> dict[str, Any]:
        metadata = {"task": self.task, "purpose": self.purpose, "data_class": "synthetic"}
        message = {"role": "user", "content": json.dumps(self.record())}
        body = {"model": "default", "max_tokens": 200, "metadata": metadata, "messages": [message], **changes}
        return {name: value for name, value in body.items() if value is not None}


Check = Callable[[Box], None]
CHECKS: list[tuple[str, Check]] = []


def check(promise: str) -> Callable[[Check], Check]:
    def add(function: Check) -> Check:
        CHECKS.append((promise, function))
        return function

    return add


def need(value: object, why: str) -> None:
    if not value:
        raise NotMetError(why)


def until(ready: Callable[[], Any], why: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := ready()):
        if time.monotonic() > deadline:
            raise NotMetError(f"not within {WAIT_S:.0f} s: {why}")
        time.sleep(0.2)
    return found


@check("the status needs no key and says what is served")
def _status(box: Box) -> None:
    found = box.ask("GET", "status", Authorization="").must(200)
    need(found["model"]["release_digest"], "no release is named")


@check("the surface is described, without a key")
def _document(box: Box) -> None:
    found = box.ask("GET", "/openapi.json", Authorization="").must(200)
    need("/v1/chat/completions" in found["paths"], "the document does not know chat")


@check("one approved model is listed, and `default` is it")
def _models(box: Box) -> None:
    (model,) = box.ask("GET", "models").must(200)["data"]
    need(box.ask("GET", "models/default").must(200) == model, "`default` is another model")
    box.ask("POST", "chat/completions", box.chat(model="gpt-4o")).must(404, "model_not_found")


@check("an answer is whole: text, finish, counts and a receipt")
def _whole(box: Box) -> None:
    found = box.ask("POST", "chat/completions", box.chat()).must(200)
    need(found["choices"][0]["message"]["content"], "there is no text")
    need(found["usage"]["total_tokens"] > 0, "nothing was counted")
    receipt(box, found["receipt"])


@check("a stream is whole: pieces, counts, a receipt on the last one, then [DONE]")
def _stream(box: Box) -> None:
    body = box.chat(stream=True, stream_options={"include_usage": True})
    reply = box.ask("POST", "chat/completions", body)
    need(reply.status == 200, f"{reply.status} came")
    *chunks, done = events(reply.body)
    need(done == "[DONE]", "[DONE] is not the last event")
    last = json.loads(chunks[-1])
    need(last["usage"]["completion_tokens"] > 0, "nothing was counted")
    text = "".join(c["delta"].get("content") or "" for each in chunks for c in json.loads(each)["choices"])
    need(text, "there is no text")
    receipt(box, last["receipt"])


@check("a field the task does not know is dropped, and named in the receipt")
def _dropped(box: Box) -> None:
    record = json.dumps({**box.record(), "shoe_size": 43})
    found = box.ask("POST", "chat/completions", box.chat(messages=[{"role": "user", "content": record}])).must(200)
    need("shoe_size" in found["receipt"]["dropped_fields"], "the receipt does not name it")


@check("who is not known is refused")
def _keys(box: Box) -> None:
    for value in ("", "Bearer iwk_wrong", f"Bearer {box.key}x", f"Basic {box.key}"):
        box.ask("GET", "models", Authorization=value).must(401, "invalid_api_key")


@check("what is not understood is refused by its code and its field")
def _refusals(box: Box) -> None:
    labels = box.chat()["metadata"]
    for body, status, code in (
        (b"{", 400, "invalid_json"),
        (b"[" * 100, 400, "too_deep"),
        (box.chat(chat_template="x"), 400, "unknown_field"),
        (box.chat(temperature=3), 400, "out_of_range"),
        (box.chat(messages=None), 400, "missing_field"),
        (box.chat(metadata={**labels, "purpose": None}), 400, "purpose_required"),
        (box.chat(metadata={**labels, "task": "no_such_task"}), 400, "task_unknown"),
        (box.chat(messages=[{"role": "user", "content": "no record"}]), 400, "record_required"),
        (box.chat(messages=[{"role": "user", "content": "{}"}]), 400, "record_empty"),
    ):
        box.ask("POST", "chat/completions", body).must(status, code)
    box.ask("POST", "chat/completions", box.chat(), Content_Type="text/plain").must(415, "unsupported_media_type")
    box.ask("GET", "nothing").must(404, "not_found")
    refused = box.ask("GET", "chat/completions")
    refused.must(405, "method_not_allowed")
    need(refused.headers.get("allow") == "POST", "Allow does not say which method is taken")


@check("text that poses as the model's own marks is refused")
def _marks(box: Box) -> None:
    record = dict.fromkeys(box.record(), "<|im_end|>") | {"language": "en"}
    body = box.chat(messages=[{"role": "user", "content": json.dumps(record)}])
    box.ask("POST", "chat/completions", body).must(400, "special_token_in_content")


@check("a job is accepted, done and answered, with a receipt")
def _job(box: Box) -> None:
    job = box.ask("POST", "jobs", {"request": box.chat()}).must(202)
    need(job["state"] == "queued", "it is not queued")
    path = f"jobs/{job['id']}"
    found = until(
        lambda: (j := box.ask("GET", path).must(200))["state"] in {"succeeded", "failed"} and j, "the job's end"
    )
    need(found["state"] == "succeeded", f"it failed: {found['error']}")
    need(found["result"]["choices"][0]["message"]["content"], "there is no text")
    box.ask("POST", f"jobs/{job['id']}/cancel").must(409, "job_finished")


@check("one Idempotency-Key is one job, and another body under it is refused")
def _idempotency(box: Box) -> None:
    key, body = secrets.token_hex(8), {"request": box.chat()}
    first, again = (box.ask("POST", "jobs", body, Idempotency_Key=key).must(202)["id"] for _ in range(2))
    need(first == again, "two jobs were made")
    other = {"request": box.chat(max_tokens=7)}
    box.ask("POST", "jobs", other, Idempotency_Key=key).must(409, "idempotency_conflict")
    box.ask("POST", "jobs", body, Idempotency_Key="x" * 200).must(400, "invalid_idempotency_key")


@check("another client's job does not exist")
def _foreign(box: Box) -> None:
    box.ask("GET", f"jobs/job_{'0' * 24}").must(404, "job_not_found")


@check("who hangs up stops the generation, and the record says so")
def _disconnect(box: Box) -> None:
    with contextlib.closing(box.connect()) as wire:
        box.send(wire, "POST", box.below("chat/completions"), box.chat(stream=True, max_tokens=None), {})
        answer = wire.getresponse()
        request_id = answer.getheader("x-request-id") or ""
        answer.read(1)
    found = until(
        lambda: (e := box.ask("GET", f"explain/{request_id}").must(200))["finished_at"] and e, "its end is on record"
    )
    # A short draft may be whole before anybody could hang up.
    need(found["state"] in {"client_gone", "ok"}, f"the record says {found['state']}")


@check("a person's decision is taken once")
def _decision(box: Box) -> None:
    request_id = box.ask("POST", "chat/completions", box.chat()).must(200)["receipt"]["request_id"]
    body = {"request_id": request_id, "decision": "rejected", "user": "conformance"}
    box.ask("POST", "decisions", body).must(200)
    box.ask("POST", "decisions", body).must(409, "already_decided")


def receipt(box: Box, found: Mapping[str, Any]) -> None:
    need(found["task"] == box.task, "the receipt names another task")
    need(found["purpose"] == box.purpose, "the receipt names another purpose")
    need(found["ai_generated"] is True, "the receipt does not say that a machine wrote it")
    served = box.ask("GET", "status").json["model"]["release_digest"]
    need(found["release_digest"] == served, "the receipt names another release than is served")
    told = box.ask("GET", f"explain/{found['request_id']}").must(200)
    need(told["model"]["release_digest"] == served, "the receipt cannot be resolved")


def events(body: bytes) -> Iterator[str]:
    return (block.removeprefix("data: ") for block in body.decode().split("\n\n") if block)


def main() -> int:
    """Ask everything; 0 when nothing failed."""
    options = argparse.ArgumentParser(description="Does this box keep its word?")
    options.add_argument("--base-url", required=True, help="https://box.hospital/v1")
    options.add_argument("--api-key", default=os.environ.get("ISOWARD_API_KEY", ""), help="better: ISOWARD_API_KEY")
    options.add_argument("--task", default="progress_note", help="a task with a record that the key is granted")
    options.add_argument("--purpose", default="TREAT")
    options.add_argument("--ca-file", help="the hospital's CA, where the system does not know it")
    given = options.parse_args()
    box = Box(given.base_url.rstrip("/"), given.api_key, given.task, given.purpose, given.ca_file)
    words = [told(box, promise, function) for promise, function in CHECKS]
    print(", ".join(f"{words.count(word)} {word}" for word in ("pass", "FAIL", "skip")))
    return 0 if "FAIL" not in words and "pass" in words else 1


def told(box: Box, promise: str, function: Check) -> str:
    """Ask one thing and say how it went: pass, FAIL or skip."""
    word, why = "pass", ""
    try:
        function(box)
    except SkippedError as error:
        word, why = "skip", f": {error}"
    except NotMetError as error:
        word, why = "FAIL", f": {error}"
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        word, why = "FAIL", f": {type(error).__name__}: {error}"
    print(f"{word}  {promise}{why}", flush=True)
    return word


if __name__ == "__main__":
    sys.exit(main())
