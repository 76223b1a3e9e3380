"""`GET /openapi.json`: what this door takes and answers, as OpenAPI 3.1, for whoever writes an app or tests this box.

Limits, tasks, purposes and codes are those of the code, by import. Which operations there are stands in `operations`; a
test holds it against the routes.
"""

from __future__ import annotations

from functools import lru_cache

from inference.api.desk import Desk
from inference.api.exchange import Exchange
from inference.api.openapi.document import build

__all__ = ["serve"]

document = lru_cache(maxsize=1)(build)


async def serve(exchange: Exchange, _desk: Desk) -> None:
    """The document; the same for everybody, and nothing of any client in it."""
    await exchange.reply(200, document())
