"""What is kept of an answer that nobody waited for, in a form that is no wire's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.audit.entry import Entry
from inference.engines.engine import Finish, Piece
from inference.policy import tools
from inference.policy.ask import Ask
from inference.serve import Receipt


def answer_of(result: Mapping[str, Any]) -> tools.Answer:
    """A kept result as an answer: where tools were offered, what its envelope holds."""
    return tools.read(result["text"]) if result.get("envelope") else tools.Answer(text=result["text"])


@dataclass
class Draft:
    """An answer while it comes, to what was asked."""

    ask: Ask | None = None
    receipt: Receipt | None = None
    pieces: list[Piece] = field(default_factory=list)

    def packed(self, outcome: Entry) -> bytes:
        """The whole answer with its receipt; nothing unless it ended well."""
        if self.receipt is None or outcome.outcome != "ok":
            return b""
        # What it was held against is known once it is whole: the outcome has it, the receipt of the beginning has not.
        receipt = {**self.receipt.as_json(), "checks": json.loads(outcome.detail).get("checks")}
        finish = next((piece.finish for piece in reversed(self.pieces) if piece.finish), Finish.STOP)
        return json.dumps(
            {
                "text": "".join(piece.text for piece in self.pieces),
                "finish": finish.value,
                "input_tokens": outcome.input_tokens,
                "output_tokens": outcome.output_tokens,
                "model": outcome.model,
                "receipt": receipt,
                "envelope": self.ask is not None and bool(tools.offered(self.ask.tools, self.ask.tool_choice)),
                "logprobs": [token for piece in self.pieces for token in piece.logprobs],
            }
        ).encode()
