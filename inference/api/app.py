"""The raw ASGI application: opens the desk, takes each exchange through the gates of the door, answers every error.

Django's async views cost 26 to 74 times a raw handler here (PERFORMANCE.md 3.2), so there are none. Nothing a handler
raises leaves this file: a refusal becomes an answer and a record, anything else a 500 that says nothing.
"""

from __future__ import annotations

import gc
import logging

from appliance.audit.errors import AuditUnavailableError
from inference.admission.rules import Capacity
from inference.admission.standing import conninfo
from inference.api import auth, errors, routes, sse
from inference.api.desk import Desk
from inference.api.exchange import CallerLeftError, Exchange, Receive, Scope, Send
from inference.engines.errors import EngineError
from inference.policy.errors import PolicyRefusal
from inference.policy.rules import Rights
from inference.queue.channel import client_here

log = logging.getLogger(__name__)

_COLLECT_AFTER = 10_000
"""Objects, more than were freed; Python's own 700 are reached every dozen requests, and each time all tokens wait."""


class Application:
    """One per worker process; gunicorn's lifespan opens and closes its desk."""

    def __init__(self) -> None:
        self._desk: Desk | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(Exchange(scope, receive, send))
            case "lifespan":
                await self._lifespan(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1003})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._desk = await Desk.open(conninfo())
        # What was loaded stays: the collector need not look at it again, and a request leaves it next to nothing.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER, 10, 10)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._desk.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, exchange: Exchange) -> None:
        if self._desk is None:
            raise RuntimeError("asked before the lifespan began; run gunicorn with --asgi-lifespan on")
        rights: Rights | None = None
        capacity = self._desk.standing.capacity()
        exchange.capacity = "" if capacity is Capacity.FULL else capacity.value
        try:
            exchange.check_target(self._desk.allowed_hosts)
            route = routes.find(exchange.method, exchange.path)
            if route.open is not None:
                exchange.query().end()
                await route.open(exchange, self._desk)
            elif route.keyed is not None:
                held = auth.authenticate(exchange, self._desk.standing)
                rights = held.rights  # from here on a refusal is on record with its client
                client_here.set(rights.client)
                rights = auth.admit(exchange, self._desk.standing, held)
                if not route.takes_query:
                    exchange.query().end()
                await route.keyed(exchange, self._desk, rights, route.argument)
        except CallerLeftError:
            log.info("caller_left", extra={"request_id": exchange.request_id})
        except Exception as error:  # noqa: BLE001 - the last line: whatever it is, the caller gets an answer of ours
            await self._refuse(self._desk, exchange, error, rights)
        finally:
            exchange.close()

    async def _refuse(self, desk: Desk, exchange: Exchange, error: Exception, rights: Rights | None) -> None:
        refusal = errors.refusal(error)
        if isinstance(error, AuditUnavailableError):
            desk.refusals.count(refusal.code, rights=rights)
        elif not isinstance(error, EngineError):  # that one has its outcome on record already
            await desk.refusals.record(
                refusal.code,
                request_id=exchange.request_id,
                rights=rights,
                end_user=error.end_user if isinstance(error, PolicyRefusal) else "",
            )
        try:
            if exchange.started and not exchange.has_words:
                # Left without its last chunk: the server closes the connection, and no client takes it for whole.
                log.warning("download_cut", extra={"request_id": exchange.request_id, "code": refusal.code})
            elif exchange.started:
                said = exchange.failure(refusal) if exchange.failure else sse.failure(refusal, exchange.request_id)
                await exchange.end(said)
            else:
                await exchange.refuse(refusal)
        except CallerLeftError:
            log.info("caller_left", extra={"request_id": exchange.request_id})


application = Application()
