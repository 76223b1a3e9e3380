"""What an engine is, to everything above it: an order goes in, pieces of text come out, and the end is never silent.

Decides the types at the boundary. How vLLM is spoken to is `vllm`, who may ask is far above. Every generation ends in
exactly one of two ways: a last piece with a `finish`, or an EngineError.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from inference.policy.ask import Prompt, Sampling
from inference.policy.catalog import Lane

# vLLM's priority scheduling: lower runs first.
PRIORITY = {Lane.STAT: -10, Lane.INTERACTIVE: 0, Lane.BATCH: 10}


class Finish(StrEnum):
    """Why the model stopped, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"


class Usage(msgspec.Struct, frozen=True):
    """Tokens spent so far."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Order:
    """One generation, as we ask for it. Nothing in it is the caller's but the text and the bounded sampling."""

    slot: str
    model: str
    prompt: Prompt
    sampling: Sampling
    priority: int
    cache_salt: str
    request_id: str


class Piece(msgspec.Struct, frozen=True):
    """Some text, and what has been spent with it. `finish` is set on the last one only.

    A struct and no dataclass: there is one of these for every token, and a frozen dataclass costs ten times as much.
    """

    text: str
    usage: Usage
    finish: Finish | None = None
    logprobs: tuple[Mapping[str, Any], ...] = ()
    """One for each token of the text, in OpenAI's form, when they were asked for."""
    vectors: tuple[tuple[float, ...], ...] = ()
    """One for each text to embed."""
    more: bool = False
    """Another piece came with it: what is made of both may leave in one packet."""

    def __repr__(self) -> str:
        return f"Piece({len(self.text)} characters, {self.usage}, {self.finish})"  # a traceback may be logged


class Engine(Protocol):
    """Where answers come from."""

    def generate(self, order: Order) -> AsyncGenerator[Piece, None]:
        """The answer piece by piece. Closing the iterator stops the generation."""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...
