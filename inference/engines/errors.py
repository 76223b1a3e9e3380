"""What can be wrong with an engine, seen from our side. None of these carries a byte the engine said.

An engine's own error text may quote a prompt, so it stops at the door: the code and our sentence go on.
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything an engine can do to us."""

    code = "engine_failed"

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        if code:
            self.code = code


class EngineUnavailableError(EngineError):
    """Nothing listens on the slot's socket, or it hung up before it answered."""

    code = "engine_unavailable"


class EngineTimeoutError(EngineError):
    """It listens, but did not answer in the time it was given."""

    code = "engine_timeout"


class EngineProtocolError(EngineError):
    """It answered with something that is not its protocol: garbage, too much, or an end in the middle."""

    code = "engine_protocol"


class EngineRefusedError(EngineError):
    """It answered with a refusal of its own; a request that we built was not one it takes."""

    code = "engine_refused"


def of_status(status: int, said: bytes) -> EngineError:
    """What an answer that is not 200 means to us. `said` only tells a prompt that does not fit from our own mistake."""
    if status in {400, 413} and b"context length" in said:
        return EngineRefusedError("the record does not fit the model's context", code="context_length")
    if status in {400, 413}:
        return EngineRefusedError("the engine refused the request")
    if status in {429, 503}:
        return EngineUnavailableError("the engine takes no work now")
    return EngineRefusedError("the engine failed the request", code="engine_failed")


class SlotError(Exception):
    """A file of a slot cannot be written, or what lies there is not what a keeper writes."""
