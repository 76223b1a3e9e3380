"""What a request is, once the door has parsed it: typed and bounded, and nothing about it decided yet.

One `Ask` for every door and every form: a task's record, a conversation, a bare prompt, texts to embed, a recording.
What may be asked is `rules`; how it looked on the wire is `inference.api`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


class Decimal(float):
    """A number with a point or an exponent, and the very characters the client wrote it with."""

    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type[Decimal], tuple[str]]:
        return (Decimal, (self.text,))


@dataclass(frozen=True)
class Sampling:
    """How the model is to draw. None means: the engine's own default. `logprobs` is how many alternatives to name."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: int | None = None


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation as the model sees it: system, user or assistant."""

    role: str
    content: str = field(repr=False)


@dataclass(frozen=True)
class Tool:
    """A function of the caller's that the model may name. The appliance itself calls nothing (S0-4)."""

    name: str
    description: str = field(repr=False)
    parameters: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Audio:
    """A recording, in memory only; a bytearray, so that whoever took it in can wipe it."""

    data: bytearray = field(repr=False)
    media_type: str
    language: str = ""


@dataclass(frozen=True)
class Ask:
    """A request after the door has parsed it. Exactly one of record, turns, prompt, inputs and audio is there."""

    model: str
    task: str
    purpose: str
    record: Mapping[str, Any] | None = field(default=None, repr=False)
    turns: tuple[Turn, ...] = field(default=(), repr=False)
    prompt: str = field(default="", repr=False)
    inputs: tuple[str, ...] = field(default=(), repr=False)
    audio: Audio | None = field(default=None, repr=False)
    data_class: str = ""
    patient_id: str = field(default="", repr=False)
    end_user: str = ""
    sampling: Sampling = Sampling()
    schema: Mapping[str, Any] | None = field(default=None, repr=False)
    """The JSON Schema the caller wants the answer to have."""
    tools: tuple[Tool, ...] = field(default=(), repr=False)
    tool_choice: str = "none"
    """none, auto, required, or the name of one tool."""
    dropped: tuple[str, ...] = ()
    """What was cut from the record already, when it was accepted to be answered later."""


@dataclass(frozen=True)
class Prompt:
    """What is left for the model: one of turns, raw text, texts to embed or a recording, and the answer's shape."""

    turns: tuple[Turn, ...] = field(default=(), repr=False)
    raw: str = field(default="", repr=False)
    inputs: tuple[str, ...] = field(default=(), repr=False)
    audio: Audio | None = field(default=None, repr=False)
    kept: Mapping[str, Any] | None = field(default=None, repr=False)
    """The record, cut to the task's fields."""
    schema: Mapping[str, Any] | None = field(default=None, repr=False)
    dropped: tuple[str, ...] = ()

    @property
    def content(self) -> bytes | bytearray:
        """The bytes whose keyed mark stands for the prompt in the log."""
        if self.audio is not None:
            return self.audio.data
        if self.turns:
            return "\n".join(turn.content for turn in self.turns).encode()
        return "\n".join((self.raw, *self.inputs)).encode()
