"""Celery's side: the bells, one attempt at a job, one turn at a batch, and the sweep.

A message carries a job's id, or a batch's and the number of a slice, and nothing else. An attempt runs the same steps
as an interactive request (`inference.serve`), with two differences: its records are written in the transactions that
move the job, and while it runs it keeps a lease. One event loop per worker process, made after the fork.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar

from celery import shared_task
from celery.exceptions import CeleryError
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import KombuError

from appliance.audit.entry import Entry, Position
from appliance.audit.errors import AuditUnavailableError
from inference.admission.errors import AdmissionError, StaleError
from inference.admission.lanes import Lanes
from inference.admission.rules import Limits
from inference.admission.standing import Standing, conninfo
from inference.engines.engine import Piece
from inference.engines.errors import EngineError
from inference.engines.vllm import Vllm
from inference.policy.catalog import Lane
from inference.policy.errors import PolicyRefusal
from inference.queue import rules, services, webhook
from inference.queue.channel import DatabaseUnavailableError, Rows
from inference.queue.errors import LostLeaseError, WebhookError
from inference.queue.feeder import Feeder, Ledger
from inference.queue.results import Draft
from inference.serve import Caller, House, Opened, answer, salt

log = logging.getLogger(__name__)

_SWEEPER = "queue-sweep"
_TELLER = "queue-webhooks"


@shared_task(name="inference.queue.tasks.run", ignore_result=True, acks_late=True)
def run(ref: str) -> None:
    """Make one attempt at a job, if it still waits."""
    bench = Bench.here()
    bench.runner.run(bench.attempt(ref))


@shared_task(name="inference.queue.tasks.run_slice", ignore_result=True, acks_late=True)
def run_slice(batch: str, number: int) -> None:
    """Take a turn at a batch, beginning at that slice of it."""
    bench = Bench.here()
    bench.runner.run(bench.turn(batch, number))


@shared_task(name="inference.queue.tasks.sweep", ignore_result=True)
def sweep() -> None:
    """Close what dead workers left, end what is done, and ring again for what waits too long."""
    for ref in services.sweep(actor=_SWEEPER):
        ring(ref, expires_s=30)
    services.end_batches(actor=_SWEEPER)
    for batch, number in services.unheard_batches():
        ring_slice(batch, number, expires_s=30)


@shared_task(name="inference.queue.tasks.forget", ignore_result=True)
def forget() -> None:
    """Let go of results and files whose life is over."""
    services.forget()
    services.forget_news()


@shared_task(name="inference.queue.tasks.tell", ignore_result=True)
def tell() -> None:
    """Tell apps that registered for it what has ended. Nothing at all where the site allows no address."""
    allowed = settings.SITE.webhooks
    if not allowed:
        return
    services.find_news()
    for message in services.take_news():
        try:
            taken = webhook.send(message, allowed=allowed, now=int(timezone.now().timestamp()))
        except WebhookError as error:  # the site's list has become shorter since
            log.warning("webhook_refused", extra={"event_id": message.ref, "code": error.code})
            taken = False
        services.settle_news(actor=_TELLER, ref=message.ref, taken=taken)


@shared_task(name="inference.queue.tasks.close_unanswered", ignore_result=True)
def close_unanswered() -> None:
    """Give an outcome to what a killed API process left without one."""
    now = timezone.now()
    closed = services.close_unanswered(
        actor=_SWEEPER, since=now - rules.UNANSWERED_WITHIN, until=now - rules.UNANSWERED_AFTER
    )
    if closed:
        log.warning("intents_closed_unknown", extra={"count": closed})


def ring(ref: str, *, expires_s: int = 300) -> None:
    """Tell a worker. An old bell is no use: the sweep rings a new one."""
    run.apply_async((ref,), expires=expires_s, retry=False)


def ring_slice(batch: str, number: int, *, expires_s: int = 300) -> None:
    """The same for a slice of a batch."""
    run_slice.apply_async((batch, number), expires=expires_s, retry=False)


@dataclass
class Bench:
    """The standing parts of one worker process."""

    name: str
    runner: asyncio.Runner
    rows: Rows
    house: House
    ledger: Ledger
    width: int

    _here: ClassVar[Bench | None] = None

    @classmethod
    def here(cls) -> Bench:
        """The process's own, made at its first job: a loop or a connection must not cross a fork."""
        name = f"{socket.gethostname()}:{os.getpid()}"
        if cls._here is None or cls._here.name != name:
            cls._here = cls._make(name)
        return cls._here

    @classmethod
    def _make(cls, name: str) -> Bench:
        site, rows = settings.SITE, Rows(threads=2)
        standing = Standing(conninfo())
        limits = Limits.of_queue(engine_slots=site.engine.max_num_seqs, context=site.engine.max_model_len, processes=1)
        house = House(
            standing=standing,
            # Enough for every line this worker keeps in the engine; how many that is, `width` decides.
            lanes=Lanes(limits, pressure=standing.pressure),
            book=Unopened(),
            engine=Vllm(socket_of=site.engine_socket, api_key=site.secret("engine-api-key").decode("ascii")),
            salt=salt(site.secret("audit-hmac")),
        )
        ledger = Ledger(rows, name)
        return cls(
            name=name, runner=asyncio.Runner(), rows=rows, house=house, ledger=ledger, width=site.engine.max_num_seqs
        )

    def close(self) -> None:
        """Let go of everything; the next job makes a new one."""
        self.runner.run(self._let_go())
        self.runner.close()
        self.rows.close()
        type(self)._here = None  # noqa: SLF001 - our own

    async def _let_go(self) -> None:
        await self.house.engine.close()
        await self.house.standing.close()

    async def attempt(self, ref: str) -> None:
        """Claim, answer, and leave the job where the outcome says."""
        try:
            await self.house.standing.refresh()
            claim = await self.rows.call(services.claim, actor=self.name, ref=ref)
            if claim is not None:
                await self._answer(claim)
        except LostLeaseError:
            log.warning("job_lease_lost", extra={"job": ref})
        except DatabaseUnavailableError:
            log.warning("job_database_unavailable", extra={"job": ref})

    async def turn(self, batch: str, number: int) -> None:
        """As many lines of a batch as a turn has time for; then the bell for the next turn."""
        feeder = Feeder(
            house=self.house, rows=self.rows, ledger=self.ledger, worker=self.name, batch=batch, width=self.width
        )
        try:
            await self.house.standing.refresh()
            go_on = await feeder.run(number * rules.SLICE)
            if go_on is not None:
                ring_slice(batch, rules.slice_of(go_on + 1))
            else:
                await self.rows.call(services.end_batches, actor=self.name, only=batch)
        except DatabaseUnavailableError:
            log.warning("slice_database_unavailable", extra={"batch": batch})
        except (KombuError, CeleryError, OSError) as error:
            log.warning("bell_unheard", extra={"error_type": type(error).__name__})

    async def _answer(self, claim: services.Claim) -> None:
        book = AttemptBook(self, claim, Draft(claim.ask))
        try:
            # Durable work is batch work, whatever the key's own lane: nobody is waiting.
            rights = replace(self.house.standing.left_of(claim.accepted), lane=Lane.BATCH)
            caller = Caller(rights=rights, request_id=claim.request_id)
            await self._holding_the_lease(claim, caller, self._write(claim, caller, book))
        except PolicyRefusal as refusal:
            if not book.closed:
                await self._refuse(claim, refusal.code)
        except AdmissionError as error:
            await self._put_back(claim, timedelta(seconds=error.retry_after_s))
        except AuditUnavailableError:
            await self._put_back(claim, timedelta(seconds=2))
        except EngineError as error:
            log.info("job_attempt_failed", extra={"job": claim.ref, "code": error.code})  # its outcome moved the job

    async def _refuse(self, claim: services.Claim, code: str) -> None:
        proved = claim.accepted.end_user if claim.accepted else ""
        await self.rows.call(
            services.refuse,
            actor=self.name,
            ref=claim.ref,
            attempt=claim.attempt,
            code=code,
            end_user=proved or claim.ask.end_user,
            proved=bool(proved),
        )

    async def _write(self, claim: services.Claim, caller: Caller, book: AttemptBook) -> None:
        house = replace(self.house, book=book)
        async with aclosing(answer(claim.ask, caller=caller, house=house)) as steps:
            async for step in steps:
                match step:
                    case Opened():
                        book.draft.receipt = step.receipt
                    case Piece():
                        book.draft.pieces.append(step)

    async def _holding_the_lease(self, claim: services.Claim, caller: Caller, work: Coroutine[Any, Any, None]) -> None:
        """Run the work and renew the lease beside it; stop the work when it is lost or cancelled."""
        running = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({running}, timeout=rules.RENEW_S))[0]:
                await self.house.standing.refresh()
                self.house.standing.check_still(caller.rights)  # an engine that says nothing gives no piece to ask at
                if not await self.rows.call(services.renew, actor=self.name, ref=claim.ref, attempt=claim.attempt):
                    caller.left = "cancelled"
                    break
        except (PolicyRefusal, StaleError) as refusal:
            caller.left = refusal.code
            raise
        finally:
            running.cancel()
            await asyncio.wait({running})
        if not running.cancelled():
            running.result()

    async def _put_back(self, claim: services.Claim, delay: timedelta) -> None:
        await self.rows.call(services.put_back, actor=self.name, ref=claim.ref, attempt=claim.attempt, delay=delay)


@dataclass
class AttemptBook:
    """The book of one attempt: its records are rows of the same transactions that move the job."""

    bench: Bench
    claim: services.Claim
    draft: Draft = field(default_factory=Draft)
    closed: bool = False

    async def put(self, entry: Entry, *, keep: bool = False) -> Position:
        """Durable on return. LostLeaseError when the attempt is not ours any more."""
        name, claim, rows = self.bench.name, self.claim, self.bench.rows
        try:
            if entry.kind == "intent":
                return await rows.call(
                    services.open_attempt, actor=name, ref=claim.ref, attempt=claim.attempt, intent=entry
                )
            position = await rows.call(
                services.close_attempt,
                actor=name,
                ref=claim.ref,
                attempt=claim.attempt,
                outcome=entry,
                result=self.draft.packed(entry),
            )
        except DatabaseUnavailableError as error:
            raise AuditUnavailableError("the record did not become durable") from error
        self.closed = True
        return position


class Unopened:
    """The house's book before an attempt brings its own: nothing may be written here."""

    async def put(self, entry: Entry, *, keep: bool = False) -> Position:
        raise RuntimeError("a record outside of an attempt")
