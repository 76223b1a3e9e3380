"""What is kept of an answer that nobody waited for, in a form that is no wire's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from appliance.audit.entry import Entry
from inference.engines.engine import Finish, Piece
from inference.serve import Receipt


@dataclass
class Draft:
    """An answer while it comes."""

    receipt: Receipt | None = None
    pieces: list[Piece] = field(default_factory=list)

    def packed(self, outcome: Entry) -> bytes:
        """The whole answer with its receipt; nothing unless it ended well."""
        if self.receipt is None or outcome.outcome != "ok":
            return b""
        finish = next((piece.finish for piece in reversed(self.pieces) if piece.finish), Finish.STOP)
        return json.dumps(
            {
                "text": "".join(piece.text for piece in self.pieces),
                "finish": finish.value,
                "input_tokens": outcome.input_tokens,
                "output_tokens": outcome.output_tokens,
                "model": outcome.model,
                "receipt": self.receipt.as_json(),
            }
        ).encode()
