"""`POST /v1/audio/transcriptions`: a recording becomes text, for the task `transcription`.

The recording is in memory only, and is overwritten before the exchange ends. The official client puts task and purpose
into its `extra_body`, which travels as form fields: `metadata[task]`, `metadata[purpose]`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass

from inference.admission.errors import QueueFullError
from inference.api import schemas
from inference.api.answering import caller_of, while_listening, whole
from inference.api.desk import Desk
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.api.fields import Fields
from inference.api.forms import Form
from inference.policy import catalog
from inference.policy.ask import Ask, Audio
from inference.policy.catalog import TASKS
from inference.policy.errors import PolicyRefusal
from inference.policy.rules import Rights
from inference.serve import Caller

LARGEST_RECORDING = 26_214_400
MOST_AT_ONCE = 4
MOST_OF_ONE = 2
RECEIPT_HEADER = "x-isoward-receipt"
_HEARD = frozenset(task.id for task in TASKS.values() if task.form is catalog.Form.AUDIO)
_LANGUAGE = re.compile(r"[a-z]{2}")


@dataclass(frozen=True)
class _Request:
    """A parsed form: what is asked, and whether the answer is to be plain words."""

    ask: Ask
    plain: bool


class _Room:
    """How many recordings this process holds at a time: each of them is memory that nothing else can have.

    A recording may arrive slowly, so no client can have all the room.
    """

    held: Counter[str] = Counter()

    def __init__(self, client: str) -> None:
        self._client = client

    def __enter__(self) -> None:
        if _Room.held[self._client] >= MOST_OF_ONE:
            raise QueueFullError("client_queue_full", "this client's recordings are being heard", retry_after_s=5)
        if _Room.held.total() >= MOST_AT_ONCE:
            raise QueueFullError("queue_full", "enough recordings are being heard; ask again", retry_after_s=5)
        _Room.held[self._client] += 1

    def __exit__(self, *_: object) -> None:
        _Room.held[self._client] -= 1
        if not _Room.held[self._client]:
            del _Room.held[self._client]


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """The words of one recording."""
    caller = caller_of(exchange, rights)
    if not rights.tasks & _HEARD:
        # Before the body: who may not ask takes no room.
        raise PolicyRefusal("task_not_granted", "this key is not granted a task that takes a recording")
    form = Form("file")
    with _Room(rights.client):
        try:
            await form.read(exchange, most=LARGEST_RECORDING)
            request = _parse(form.fields, form.file)
            await while_listening(exchange, desk, caller, _answer(exchange, desk, request, caller))
        finally:
            form.wipe()


def media_type(recording: bytes | bytearray) -> str:
    """What its first bytes say it is; nothing else is believed."""
    head = bytes(recording[:12])
    if head.startswith(b"RIFF") and head.endswith(b"WAVE"):
        return "audio/wav"
    if head.startswith(b"fLaC"):
        return "audio/flac"
    if head.startswith(b"OggS"):
        return "audio/ogg"
    # An ID3 tag, or the first frame: eleven bits of sync and "layer III".
    if head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return "audio/mpeg"
    raise BadRequestError("audio_unsupported", "send a recording as WAV, FLAC, OGG or MP3", param="file")


def _parse(fields: Fields, recording: bytearray) -> _Request:
    model = fields.text("model", required=True)
    about = schemas.labels(fields)
    language = fields.text("language")
    if language and not _LANGUAGE.fullmatch(language):
        raise fields.range("language", "two small letters, as in ISO 639-1")
    plain = fields.choice("response_format", ("json", "text")) == "text"
    fields.end()
    return _Request(about.ask(model, audio=Audio(recording, media_type(recording), language)), plain)


async def _answer(exchange: Exchange, desk: Desk, request: _Request, caller: Caller) -> None:
    found = await whole(request.ask, caller=caller, desk=desk)
    receipt = found.done.receipt.as_json()
    if request.plain:
        await exchange.text(found.text, {RECEIPT_HEADER: json.dumps(receipt)})
    else:
        await exchange.reply(200, {"text": found.text, "receipt": receipt})
