"""What this process knows: all rights, the release that serves, how the cards are. Fresh, or nobody is let in.

The rows are read by the apps' own selectors, in one thread of its own, never per request: on NOTIFY, and every
second in case one was lost. Nothing is let in on knowledge older than five seconds, and nothing runs on with knowledge
older than eight, asked every two: a withdrawal that cannot be heard of then holds as soon as one that can (SECURITY.md
T17: five seconds for new work, ten for what runs), and a short restart of PostgreSQL cuts nobody off. Ages count from
before the read began. When PostgreSQL comes back so does this, by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from psycopg.conninfo import make_conninfo

from inference.admission import pressure
from inference.admission.errors import NoModelError, StaleError
from inference.admission.rules import Capacity, Pressure
from inference.clients import rules
from inference.clients import selectors as clients
from inference.clients.assertions import Assertions, Claims
from inference.policy.errors import PolicyRefusal
from inference.policy.rules import Rights
from inference.releases import selectors as releases
from inference.releases.errors import TokenizerUnreadableError

log = logging.getLogger(__name__)

STALE_AFTER_S = 5.0
RUNS_ON_S = 8.0
_POLL_S = 1.0
_AGAIN_S = 0.5
_CHANNELS = (clients.CHANGED, "isoward_serving")


@dataclass(frozen=True)
class Facts:
    """One reading: every right, what serves, and what the cards can bear."""

    clients: clients.Snapshot
    serving: releases.Serving | None
    control_tokens: frozenset[str] = frozenset()
    """What the serving model's tokenizer reads as more than text."""
    pressure: Pressure = Pressure.CLEAR


def conninfo() -> str:
    """Django's own database, for the connections that are not Django's."""
    parts = connection.settings_dict
    return make_conninfo(host=parts["HOST"], port=parts["PORT"], dbname=parts["NAME"], user=parts["USER"])


class Standing:
    """The latest facts of this process, kept fresh by `keep`."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._facts: Facts | None = None
        self._taken = 0.0
        self._assertions = Assertions()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="standing")
        self._keeper: asyncio.Task[None] | None = None

    def current(self) -> Facts:
        """The facts, or StaleError."""
        return self._read_within(STALE_AFTER_S)

    def _read_within(self, seconds: float) -> Facts:
        if self._facts is None or time.monotonic() - self._taken > seconds:
            raise StaleError("rights_stale", "rights cannot be read now; ask again", retry_after_s=2)
        return self._facts

    def serving(self) -> releases.Serving:
        """What serves, or NoModelError."""
        found = self.current().serving
        if found is None:
            raise NoModelError("no_model", "no approved model is being served", retry_after_s=5)
        return found

    def left_of(self, accepted: Rights | None) -> Rights:
        """What is left of the rights that durable work was accepted with; PolicyRefusal when the key, or the word of
        whoever vouched for its user, counts no more. What nobody can open any more is withdrawn too.
        """
        facts = self.current()
        now = facts.clients.of_key_id(accepted.key_id, now=datetime.now(UTC)) if accepted is not None else None
        if accepted is None or now is None:
            raise PolicyRefusal("rights_withdrawn", "this key's rights were withdrawn")
        rights = rules.left(accepted, now)
        self.check_still(rights)
        return rights

    def vouched(self, token: str, *, client: str) -> Claims:
        """What an end-user assertion says, or BadAssertionError."""
        return self._assertions.read(token, self.current().clients.issuers, client=client, now=datetime.now(UTC))

    def pressure(self) -> Pressure:
        """What the cards can bear, as last read; whether that is too old is `current`'s to say."""
        return self._facts.pressure if self._facts else Pressure.BLIND

    def capacity(self) -> Capacity:
        """The same in the one word that answers carry."""
        return Capacity.under(self.pressure())

    def check_still(self, rights: Rights) -> None:
        """PolicyRefusal when any of these rights was withdrawn since the request began: the key's, its client's, or
        the issuer's who vouched for the user. StaleError when nobody can say any more: what is not let in does not go
        on either, or a withdrawal that this process cannot hear of would never reach what runs.
        """
        if not self._read_within(RUNS_ON_S).clients.stands(rights, now=datetime.now(UTC)):
            raise PolicyRefusal("rights_withdrawn", "this key's rights were withdrawn while it ran")

    async def refresh(self) -> bool:
        """Read once. False: something could not be read, and what was known stays until it is stale."""
        began = time.monotonic()
        try:
            facts = await asyncio.get_running_loop().run_in_executor(self._reader, _read)
        except (DatabaseError, TokenizerUnreadableError) as error:
            log.warning("standing_unread", extra={"error_type": type(error).__name__})
            return False
        self._facts, self._taken = facts, began
        return True

    def keep(self) -> None:
        """Begin to stay fresh, until `close`."""
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        # `connection` is a different object in each thread: it must be looked up over there.
        there = lambda: connection.close()  # noqa: E731, PLW0108 - as the line above says
        await asyncio.get_running_loop().run_in_executor(self._reader, there)
        self._reader.shutdown(wait=False)

    async def _keep(self) -> None:
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError) as error:
                log.warning("standing_deaf", extra={"error_type": type(error).__name__})
            await asyncio.sleep(_AGAIN_S)  # the database is away: ask again, do not spin

    async def _listen(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._conninfo, autocommit=True, connect_timeout=2
        ) as listener:
            for channel in _CHANNELS:
                await listener.execute(f"LISTEN {channel}")
            while True:
                await self.refresh()
                async for _ in listener.notifies(timeout=_POLL_S, stop_after=1):
                    pass
                # A dead listener that times out quietly would leave us on the slow poll for ever.
                await listener.execute("SELECT 1")


def _read() -> Facts:
    """In the reader's thread. A connection that failed is dropped, so that the next read makes a new one."""
    try:
        connection.close_if_unusable_or_obsolete()
        serving = releases.serving()
        # Without them nothing could be refused for holding one: not to know them is not to know what serves.
        tokens = releases.control_tokens(serving.release_digest) if serving else frozenset()
        return Facts(
            clients=clients.snapshot(),
            serving=serving,
            control_tokens=tokens,
            pressure=pressure.read(expected=settings.SITE.expected_gpus),
        )
    except DatabaseError:
        connection.close()
        raise
