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


class SlotError(Exception):
    """A file of a slot cannot be written, or what lies there is not what a keeper writes."""
