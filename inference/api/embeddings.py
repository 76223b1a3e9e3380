"""`POST /v1/embeddings`: texts become vectors, for the task `embedding`.

The official client asks for base64 when it is not told otherwise, and has no `metadata` here: task and purpose travel
in its `extra_body`. Vectors are as long as the model makes them; `dimensions` is refused and not obeyed silently.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import Any

from inference.api import document, schemas
from inference.api.answering import caller_of, while_listening, whole
from inference.api.desk import Desk
from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.api.fields import Fields
from inference.policy.ask import Ask
from inference.policy.rules import Rights
from inference.serve import Caller

MOST_TEXTS = 256
LONGEST_TEXT = 65_536


@dataclass(frozen=True)
class _Request:
    """A parsed body: the texts, and how a vector is to be spelled."""

    ask: Ask
    packed: bool


async def create(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """All the vectors, in the order of the texts."""
    caller = caller_of(exchange, rights)
    request = _parse(document.parse(await exchange.body()))
    await while_listening(exchange, desk, caller, _answer(exchange, desk, request, caller))


def _parse(value: Any) -> _Request:
    fields = Fields(value, "")
    model = fields.text("model", required=True)
    about = schemas.labels(fields)
    packed = fields.choice("encoding_format", ("float", "base64")) == "base64"
    inputs = _inputs(fields)
    fields.end()
    return _Request(about.ask(model, inputs=inputs), packed)


def _inputs(fields: Fields) -> tuple[str, ...]:
    value = fields.required("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequestError("wrong_type", "input must be a text or a list of texts", param="input")
    if not 0 < len(texts) <= MOST_TEXTS or not all(0 < len(text) <= LONGEST_TEXT for text in texts):
        raise BadRequestError(
            "out_of_range", f"input holds 1 to {MOST_TEXTS} texts of 1 to {LONGEST_TEXT} characters", param="input"
        )
    return tuple(texts)


async def _answer(exchange: Exchange, desk: Desk, request: _Request, caller: Caller) -> None:
    found = await whole(request.ask, caller=caller, desk=desk)
    spent, receipt = found.done.usage.input_tokens, found.done.receipt
    vectors = [vector for piece in found.pieces for vector in piece.vectors]
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if request.packed else list(vector)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    await exchange.reply(
        200, {"object": "list", "data": data, "model": receipt.model, "usage": usage, "receipt": receipt.as_json()}
    )


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
