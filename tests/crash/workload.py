"""What the appliance is asked while it is being killed, and how each answer goes on the books.

Every act is one class with `act`; a campaign runs each in as many threads as its list says. Another kind of work is one
more class here; what is handed in for later is written as `accepted`, under the idempotency key it was handed in with.
"""

from __future__ import annotations

import http.client
import json
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.crash.ledger import Ledger

MODEL = "default"
ENDPOINT = "/v1/chat/completions"
LINES = 8
LABELS = {"task": "progress_note", "purpose": "TREAT"}
ANSWERED_WITHIN_S = 30
ACKNOWLEDGED_WITHIN_S = 120.0
PAUSE_S = 0.1


Answer = tuple[int, str | None, Any]  # status, Retry-After, JSON


@dataclass
class Door:
    """The LAN API from outside: one connection per exchange."""

    port: int
    key: str

    def open(self, path: str, body: Any, **headers: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWERED_WITHIN_S)
        sent = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **headers}
        method = "GET" if body is None else "POST"
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body)
            wire.request(method, path, data, sent)
            return wire, wire.getresponse()
        except BaseException:
            wire.close()
            raise

    def ask(self, path: str, body: Any = None, **headers: str) -> Answer:
        """An OSError or HTTPException when there was no whole answer."""
        status, wait, data = self.read(path, body, **headers)
        return status, wait, json.loads(data)

    def read(self, path: str, body: Any = None, **headers: str) -> tuple[int, str | None, bytes]:
        """The same, as bytes."""
        wire, response = self.open(path, body, **headers)
        try:
            return response.status, response.getheader("retry-after"), response.read()
        finally:
            wire.close()

    def upload(self, lines: bytes) -> Answer:
        """`POST /v1/files`."""
        edge = secrets.token_hex(8)
        parts = [("purpose", "", b"batch"), ("file", '; filename="lines.jsonl"', lines)]
        body = b"".join(
            f'--{edge}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"
            for name, more, value in parts
        )
        form = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        return self.ask("/v1/files", body + f"--{edge}--\r\n".encode(), **form)


# What a killed server looks like from outside: refused, reset, cut, or silent for too long.
CUT = (OSError, http.client.HTTPException)


class Act(Protocol):
    """One thing a clinical app does, from the request to the last byte."""

    def act(self) -> None: ...


@dataclass
class Later:
    """Work that is handed in under an idempotency key, and again under the same one until it is acknowledged."""

    door: Door
    ledger: Ledger

    def act(self) -> None:
        mark = _mark()
        until = time.monotonic() + ACKNOWLEDGED_WITHIN_S
        while time.monotonic() < until:
            try:
                status, wait, answer = self._hand_in(mark)
            except CUT as error:
                self.ledger.write("unanswered", kind=type(self).__name__, error=type(error).__name__)
            else:
                if status in {200, 202}:
                    self.ledger.write("accepted", ref=answer["id"], mark=mark)
                    return
                _refused(self.ledger, type(self).__name__, status, wait, answer)
            time.sleep(PAUSE_S)  # as a polite client does
        self.ledger.write("given_up", mark=mark)

    def _hand_in(self, mark: str) -> Answer:
        raise NotImplementedError


@dataclass
class Jobs(Later):
    """One job at a time."""

    def _hand_in(self, mark: str) -> Answer:
        return self.door.ask("/v1/jobs", {"request": _request(mark)}, **{"Idempotency-Key": mark})


@dataclass
class Batches(Later):
    """A few lines in a file, and a batch of them. The file is stored once; only the batch has a key."""

    _file: tuple[str, str] = ("", "")

    def _hand_in(self, mark: str) -> Answer:
        if self._file[0] != mark:
            status, wait, answer = self.door.upload(_lines(mark))
            if status != 200:
                return status, wait, answer
            self._file = (mark, answer["id"])
        asked = {"input_file_id": self._file[1], "endpoint": ENDPOINT, "completion_window": "24h"}
        return self.door.ask("/v1/batches", asked, **{"Idempotency-Key": mark})


@dataclass
class Chats:
    """A clinician who waits for the whole answer."""

    door: Door
    ledger: Ledger

    def act(self) -> None:
        mark = _mark()
        try:
            status, wait, answer = self.door.ask(ENDPOINT, _request(mark))
        except CUT as error:
            self.ledger.write("unanswered", kind="chat", error=type(error).__name__)
            return
        if status != 200:
            _refused(self.ledger, "chat", status, wait, answer)
            return
        _answered(self.ledger, "chat", answer["choices"][0]["message"]["content"], mark, answer["receipt"])


@dataclass
class Streams:
    """A clinician who reads along; one in eight closes the window after the first words."""

    door: Door
    ledger: Ledger

    def act(self) -> None:
        mark = _mark()
        try:
            wire, response = self.door.open(ENDPOINT, {**_request(mark), "stream": True})
        except CUT as error:
            self.ledger.write("unanswered", kind="stream", error=type(error).__name__)
            return
        try:
            if response.status != 200:
                _refused(self.ledger, "stream", response.status, response.getheader("retry-after"), json.load(response))
                return
            self._read(response, mark, leaves=secrets.randbelow(8) == 0)
        except CUT as error:
            self.ledger.write("unanswered", kind="stream", error=type(error).__name__)
        finally:
            response.close()
            wire.close()

    def _read(self, response: http.client.HTTPResponse, mark: str, *, leaves: bool) -> None:
        text, receipt = "", dict[str, Any]()
        for data in _events(response):
            if data == b"[DONE]":
                _answered(self.ledger, "stream", text, mark, receipt)
                return
            event = json.loads(data)
            if "error" in event:
                _refused(self.ledger, "stream", 200, None, event)
                return
            text += "".join(choice["delta"].get("content", "") for choice in event["choices"])
            receipt = event.get("receipt") or receipt
            if text and leaves:
                self.ledger.write("left", kind="stream")
                return
            if text:
                self.ledger.write("reading", kind="stream")
        # The connection ended in good order, and nothing said whether the answer is whole.
        self.ledger.write("truncated", kind="stream", mark=mark)


@dataclass
class Workload:
    """All clients at once, until `stop`; then each finishes what it has begun."""

    acts: list[Act]
    busy: Callable[[], bool]
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def start(self) -> None:
        self._stopping.clear()
        self._threads = [threading.Thread(target=self._run, args=(act,), daemon=True) for act in self.acts]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, act: Act) -> None:
        try:
            while not self._stopping.wait(random.uniform(0.05, 0.3)):
                if not (isinstance(act, Later) and self.busy()):
                    act.act()
        except Exception as error:  # noqa: BLE001 - a client that fell over must turn the campaign red, not end a thread
            self.failures.append(f"{type(act).__name__}: {type(error).__name__}: {error}")


def _events(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The data of each event. `read1`, because `readline` takes a cut stream for one that ended in good order."""
    rest = b""
    while chunk := response.read1(65_536):
        *events, rest = (rest + chunk).split(b"\n\n")
        yield from (event.removeprefix(b"data: ") for event in events)


def _mark() -> str:
    return f"mark-{secrets.token_hex(8)}"


def marks_of(mark: str) -> list[str]:
    """The marks of a batch's lines, from the batch's own."""
    return [f"mark-{number}{mark.removeprefix('mark-')[1:]}" for number in range(LINES)]


def _lines(mark: str) -> bytes:
    asked = [{"custom_id": each, "method": "POST", "url": ENDPOINT, "body": _request(each)} for each in marks_of(mark)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in asked)


def _request(mark: str) -> dict[str, Any]:
    record = {"age": 71, "diagnoses": ["bronchitis"], "codes": ["J20.9"], "plan": f"rest {mark}"}
    return {"model": MODEL, "messages": [{"role": "user", "content": json.dumps(record)}], "metadata": LABELS}


def _refused(ledger: Ledger, kind: str, status: int, wait: str | None, answer: Any) -> None:
    ledger.write("refused", kind=kind, status=status, code=answer["error"]["code"], retry_after=wait)


def _answered(ledger: Ledger, kind: str, text: str, mark: str, receipt: dict[str, Any]) -> None:
    ledger.write("answered", kind=kind, id=receipt["request_id"], own=mark in text)
