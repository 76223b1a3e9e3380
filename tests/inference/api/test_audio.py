"""`POST /v1/audio/transcriptions` through the real process and the official client; the engine is a stand-in."""

from __future__ import annotations

import io
import json
import socket
from contextlib import ExitStack
from typing import Any, cast

import openai
import pytest

from inference.api import audio
from inference.api.audio import LARGEST_RECORDING, media_type
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.api.forms import Form
from inference.policy.catalog import Lane
from inference.policy.rules import Rights
from tests.simulators import lan as lans
from tests.simulators.lan import MODEL, Lan
from tests.waiting import until

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + b"Zarathustra" * 20_000
LABELS = {"metadata": {"task": "transcription", "purpose": "TREAT", "patient_id": "4711"}}
EDGE = "----edge"
FIELDS = {"model": MODEL, "metadata[task]": "transcription", "metadata[purpose]": "TREAT"}


def form(recording: bytes = WAV, *, end: str = "--", more: str = "", **changes: str | None) -> bytes:
    """A form as a client sends it; a field set to None is left out. `metadata_task` stands for `metadata[task]`."""
    named = {name.replace("_", "[", 1) + "]" if name.startswith("metadata") else name: v for name, v in changes.items()}
    head = "".join(
        f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {**FIELDS, **named}.items()
        if value is not None
    )
    head += f'{more}--{EDGE}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return head.encode() + recording + f"\r\n--{EDGE}{end}\r\n".encode()


def send(lan: Lan, body: bytes, content_type: str = f"multipart/form-data; boundary={EDGE}") -> lans.Reply:
    return lan.ask("POST", "/v1/audio/transcriptions", body, headers={"Content-Type": content_type})


def test_the_official_client_gets_the_words_and_the_log_gets_none_of_them(lan: Lan, official: openai.OpenAI) -> None:
    answer = official.audio.transcriptions.create(
        model="default", file=("visit.wav", io.BytesIO(WAV)), language="es", extra_body=LABELS
    )
    assert answer.text == "The patient is well."
    assert answer.model_extra is not None
    receipt = answer.model_extra["receipt"]
    assert receipt["task"] == "transcription"
    (seen,) = lan.engine.seen
    assert WAV in seen.body
    assert b'name="language"\r\n\r\nes' in seen.body
    assert b"visit.wav" not in seen.body
    assert b"4711" not in seen.body
    intent, outcome = lans.audit_rows(f"request_id = '{receipt['request_id']}'")
    assert json.loads(intent["detail"])["audio_bytes"] == len(WAV)
    assert len(intent["prompt_hmac"]) == len(outcome["answer_hmac"]) == len(intent["patient_tag"]) == 64
    assert "well" not in str(outcome) + str(intent)


def test_plain_words_carry_their_receipt_in_a_header(lan: Lan, official: openai.OpenAI) -> None:
    found = official.audio.transcriptions.with_raw_response.create(
        model=MODEL, file=("a.wav", io.BytesIO(WAV)), response_format="text", extra_body=LABELS
    )
    assert found.text == "The patient is well."
    assert json.loads(found.headers["x-isoward-receipt"])["request_id"] == found.headers["x-request-id"]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"RIFF\x00\x00\x00\x00WAVE", "audio/wav"),
        (b"fLaC\x00\x00", "audio/flac"),
        (b"OggS\x00\x02", "audio/ogg"),
        (b"ID3\x04\x00", "audio/mpeg"),
        (b"\xff\xfb\x90\x00", "audio/mpeg"),
        (b"\xff\xf3\x40\xc4", "audio/mpeg"),
    ],
)
def test_a_recording_is_what_its_first_bytes_say(head: bytes, kind: str) -> None:
    assert media_type(head) == kind


@pytest.mark.parametrize(
    "recording",
    [b"MZ\x90\x00", b"%PDF-1.7", b"RIFF\x00\x00\x00\x00AVI ", b"\x00\x00\x00\x18ftypM4A ", b"\xff\xf1\x50", b"x"],
    ids=["program", "pdf", "video", "m4a", "aac", "short"],
)
def test_anything_else_is_no_recording_whatever_it_is_called(lan: Lan, recording: bytes) -> None:
    reply = send(lan, form(recording))
    assert (reply.status, reply.code) == (400, "audio_unsupported")
    assert not lan.engine.seen


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"model": None}, 400, "missing_field"),
        ({"metadata_purpose": None}, 400, "purpose_required"),
        ({"metadata_task": "progress_note"}, 400, "task_form"),
        ({"language": "german"}, 400, "out_of_range"),
        ({"response_format": "srt"}, 400, "out_of_range"),
        ({"prompt": "names"}, 400, "unknown_field"),
        ({"stream": "true"}, 400, "unknown_field"),
        ({"metadata_lane": "stat"}, 400, "unknown_field"),
        ({"user": "x" * 2000}, 400, "out_of_range"),
    ],
)
def test_what_is_not_taken_is_refused_by_name(lan: Lan, changes: dict[str, Any], status: int, code: str) -> None:
    reply = send(lan, form(**changes))
    assert (reply.status, reply.code) == (status, code)
    assert not lan.engine.seen


PART = f'--{EDGE}\r\nContent-Disposition: form-data; name="{{}}"\r\n\r\nx\r\n'
BROKEN = {
    "no end": (form(end=""), "wrong_type"),
    "cut": (form()[:-200], "wrong_type"),
    "not a form": (b"hello", "wrong_type"),
    "a field twice": (form(more=PART.format("model")), "duplicate_key"),
    "a label twice": (form(more=PART.format("metadata[task]")), "duplicate_key"),
    "a file twice": (form(more=PART.format("file")), "duplicate_key"),
    "an odd name": (form(more=PART.format("../x")), "unknown_field"),
    "no name": (form(more=f"--{EDGE}\r\nContent-Disposition: form-data\r\n\r\nx\r\n"), "unknown_field"),
    "too many fields": (form(more="".join(PART.format(f"a[{c}]") for c in "bcdefghijklmnopq")), "too_many_values"),
    "a long header": (form(more=f"--{EDGE}\r\nX: {'a' * 5000}\r\n\r\nx\r\n"), "wrong_type"),
    "an empty file": (form(b""), "missing_field"),
}


@pytest.mark.parametrize(("body", "code"), BROKEN.values(), ids=list(BROKEN))
def test_a_form_that_is_not_one_whole_plain_form_is_refused(lan: Lan, body: bytes, code: str) -> None:
    reply = send(lan, body)
    assert (reply.status, reply.code) == (400, code)
    assert not lan.engine.seen


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=x",
        f"multipart/form-data; boundary={'x' * 71}",
    ],
)
def test_another_media_type_is_refused(lan: Lan, content_type: str) -> None:
    reply = send(lan, form(), content_type)
    assert (reply.status, reply.code) == (415, "unsupported_media_type")


def test_a_recording_over_the_limit_is_refused(lan: Lan) -> None:
    reply = send(lan, form(b"OggS" + bytes(LARGEST_RECORDING)))
    assert (reply.status, reply.code) == (413, "body_too_large")
    assert not lan.engine.seen


def test_a_broken_engine_is_an_error_and_says_nothing(lan: Lan) -> None:
    lan.engine.behave = "error_500"
    reply = send(lan, form())
    assert (reply.status, reply.code) == (502, "engine_failed")
    assert b"INTERNAL" not in reply.body


async def test_the_recording_is_overwritten_however_the_exchange_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Form] = []

    class Kept(Form):
        def __init__(self, file_field: str) -> None:
            super().__init__(file_field)
            made.append(self)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": form(b"no recording, but somebody's words")}

    scope = {
        "method": "POST",
        "path": "/v1/audio/transcriptions",
        "headers": [(b"content-type", f"multipart/form-data; boundary={EDGE}".encode())],
    }
    monkeypatch.setattr(audio, "Form", Kept)
    nobody = cast("Any", None)  # it is refused before the desk is asked
    rights = Rights("ward-7", "iwk_1", frozenset({"transcription"}), frozenset(), Lane.STAT, phi=True)
    with pytest.raises(BadRequestError, match="audio_unsupported"):
        await audio.create(Exchange(scope, receive, nobody), nobody, rights, "")
    assert made[0].file == bytes(34)


def test_a_wiped_form_holds_nothing_even_while_somebody_looks() -> None:
    read = Form("file")
    read.file.extend(WAV)
    with memoryview(read.file) as view:
        read.wipe()
        assert bytes(view) == bytes(len(WAV))


def begin(lan: Lan, key: str) -> socket.socket:
    """A recording that arrives slowly: its first words, and then nothing."""
    wire = socket.create_connection(("127.0.0.1", lan.port), timeout=20)
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: multipart/form-data; boundary={EDGE}\r\nContent-Length: 100000\r\n\r\n"
    )
    wire.sendall(head.encode() + form()[:1_000])
    return wire


def test_one_clients_slow_recordings_leave_room_for_the_others(lan: Lan) -> None:
    other = lans.new_key(f"{lan.client}-nb")
    until(lambda: lan.ask("GET", "/v1/models", key=other).status == 200, 10, "the neighbour's key is known")
    with ExitStack() as stack:
        for _ in range(audio.MOST_AT_ONCE):
            stack.enter_context(begin(lan, lan.key))
        full = until(lambda: (found := send(lan, form())).status == 429 and found, 10, "the client's room is taken")
        assert full.code == "client_queue_full"
        headers = {"Content-Type": f"multipart/form-data; boundary={EDGE}"}
        assert lan.ask("POST", "/v1/audio/transcriptions", form(), key=other, headers=headers).status == 200
    until(lambda: send(lan, form()).status == 200, 10, "the room is free again")


def test_a_key_without_a_task_for_recordings_is_refused_before_its_recording_is_taken(lan: Lan) -> None:
    barred = lans.new_key(f"{lan.client}-text", tasks=["progress_note"])
    until(lambda: lan.ask("GET", "/v1/models", key=barred).status == 200, 10, "the key is known")
    with begin(lan, barred) as wire, wire.makefile("rb") as reader:
        assert reader.readline().split()[1] == b"403"
