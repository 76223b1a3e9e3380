"""One turn at a batch: the lines a worker holds, so many of them in the engine at once, their records in groups.

Each line runs the same steps as an interactive request (`inference.serve`). What is its own here:

- Records and rows are written together, for all lines that come while the last commit is in flight: no timer, and the
  busier the engine the larger the groups.
- One lease for all lines, renewed beside the work. A line that was lost or cancelled is stopped, the others go on.
- A turn ends after a while, so that other batches get theirs; what was taken and not begun is given back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta

from appliance.audit.actions import Action
from appliance.audit.entry import Entry, Position, now_us
from appliance.audit.errors import AuditUnavailableError
from appliance.audit.services import OwnShard
from inference.admission.errors import AdmissionError, StaleError
from inference.engines.engine import Piece
from inference.engines.errors import EngineError, EngineUnavailableError
from inference.policy.catalog import Lane
from inference.policy.errors import PolicyRefusal
from inference.queue import rules, selectors, services
from inference.queue.channel import DatabaseUnavailableError, Rows
from inference.queue.errors import LostLeaseError
from inference.queue.results import Draft
from inference.serve import Caller, House, Opened, answer, refused_as

log = logging.getLogger(__name__)

_PAUSE = timedelta(seconds=5)
_Put = tuple[services.Step, asyncio.Future[Position]]


class Ledger:
    """Groups of steps, each one transaction, in the process's own shard."""

    def __init__(self, rows: Rows, worker: str) -> None:
        self._rows = rows
        self._worker = worker
        self._shard = OwnShard(f"queue {worker}")
        self._waiting: list[_Put] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, step: services.Step) -> Position:
        """Durable on return. LostLeaseError when the line is not ours, AuditUnavailableError when nobody knows."""
        done: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._waiting.append((step, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await done

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            steps = [step for step, _ in group]
            try:
                moved = await self._rows.call(services.settle, actor=self._worker, steps=steps, shard=self._shard)
            except DatabaseUnavailableError:
                # Another object: the thread may still be at work with the old one, whatever we were told.
                self._shard = OwnShard(f"queue {self._worker}")
                _refuse(group, AuditUnavailableError("the records did not become durable"))
                continue
            except Exception as error:
                _refuse(group, error)
                raise
            _answer(group, moved)


def _answer(group: list[_Put], moved: Mapping[int, Position]) -> None:
    for step, done in group:
        place = moved.get(step.held.id)
        if done.done():
            continue
        if place is None:
            done.set_exception(LostLeaseError())
        else:
            done.set_result(place)


def _refuse(group: list[_Put], error: Exception) -> None:
    for _, done in group:
        if not done.done():
            done.set_exception(error)


@dataclass
class LineBook:
    """The book of one attempt at one line: its records move the row."""

    ledger: Ledger
    held: services.Held
    caller: Caller
    draft: Draft = field(default_factory=Draft)

    async def put(self, entry: Entry, *, keep: bool = False) -> Position:
        cancelled = self.caller.left == "cancelled"
        result = b"" if entry.kind == "intent" else self.draft.packed(entry)
        return await self.ledger.put(services.Step(self.held, entry, cancelled=cancelled, result=result))


@dataclass
class _Running:
    task: asyncio.Task[None]
    caller: Caller | None = None


class Feeder:
    """One turn of this process at one batch."""

    def __init__(self, *, house: House, rows: Rows, ledger: Ledger, worker: str, batch: str, width: int) -> None:
        self._house = house
        self._rows = rows
        self._ledger = ledger
        self._worker = worker
        self._batch = batch
        self._width = width
        self._ready: deque[services.Held] = deque()
        self._running: dict[int, _Running] = {}
        self._claiming = asyncio.Lock()
        self._until = time.monotonic() + rules.TURN_S
        self._stopped = False
        self._exhausted = False
        self._after = 0

    async def run(self, after: int) -> int | None:
        """Take lines from behind that one on. The line to go on behind when the turn is over and there is more."""
        self._after = after
        keeping = asyncio.create_task(self._keep())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._width):
                    group.create_task(self._work())
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            await self._give_back()
        return None if self._stopped or self._exhausted else self._after

    async def _work(self) -> None:
        while (held := await self._take()) is not None:
            running = _Running(asyncio.create_task(self._attempt(held)))
            self._running[held.id] = running
            try:
                await asyncio.wait({running.task})
            finally:
                running.task.cancel()
                del self._running[held.id]
            if not running.task.cancelled():
                running.task.result()

    async def _take(self) -> services.Held | None:
        async with self._claiming:
            if not self._ready and not self._exhausted and self._goes_on():
                most = max(rules.CLAIM, self._width)
                taken = await self._rows.call(
                    services.claim_lines, worker=self._worker, batch=self._batch, after=self._after, most=most
                )
                self._ready.extend(taken)
                self._exhausted = len(taken) < most
                self._after = taken[-1].line if taken else self._after
            return self._ready.popleft() if self._ready and self._goes_on() else None

    def _goes_on(self) -> bool:
        return not self._stopped and time.monotonic() < self._until

    async def _attempt(self, held: services.Held) -> None:
        try:
            await self._answer(held)
        except LostLeaseError:
            log.warning("job_lease_lost", extra={"job": held.ref})
        except PolicyRefusal as refusal:
            await self._refuse(held, refusal.code)
        except (AdmissionError, AuditUnavailableError) as error:
            # Not this line's fault and the next one would fare no better: the sweep rings when things may be well.
            log.warning("slice_paused", extra={"batch": self._batch, "error_type": type(error).__name__})
            self._stopped = True
            await self._back([held])
        except EngineUnavailableError:
            self._stopped = True  # the line's outcome put it back already
        except EngineError as error:
            log.info("job_attempt_failed", extra={"job": held.ref, "code": error.code})  # its outcome moved the row
        except Exception as error:
            # A line that trips over a bug of ours must not stop the others.
            log.error("job_bug", exc_info=error, extra={"job": held.ref})
            await self._refuse(held, "internal_error")

    async def _answer(self, held: services.Held) -> None:
        if held.ask is None:
            raise PolicyRefusal("internal_error", "what was asked cannot be opened")
        # Durable work is batch work, whatever the key's own lane: nobody is waiting.
        rights = replace(self._house.standing.left_of(held.accepted), lane=Lane.BATCH)
        caller = Caller(rights=rights, request_id=held.request_id)
        self._running[held.id].caller = caller
        book = LineBook(self._ledger, held, caller, Draft(held.ask))
        async with aclosing(answer(held.ask, caller=caller, house=replace(self._house, book=book))) as steps:
            async for step in steps:
                match step:
                    case Opened():
                        book.draft.receipt = step.receipt
                    case Piece():
                        book.draft.pieces.append(step)

    async def _refuse(self, held: services.Held, code: str) -> None:
        """A line that may not be asked now ends; one whose attempt was begun has ended with its outcome."""
        action, event = refused_as(code, Action.JOB_FINISHED)
        ask, accepted = held.ask, held.accepted
        user = accepted.end_user if accepted else ""
        entry = Entry(
            at_us=now_us(),
            kind="refusal",
            action=action.value,
            actor=self._worker,
            outcome=code,
            target=held.ref,
            client=accepted.client if accepted else "",
            key_id=held.key_id,
            end_user=user or (ask.end_user if ask else ""),
            purpose=ask.purpose if ask else "",
            task=ask.task if ask else "",
            detail=json.dumps({"user_proved": bool(user), **event}),
        )
        try:
            await self._ledger.put(services.Step(held, entry))
        except (LostLeaseError, AuditUnavailableError):
            log.info("job_attempt_failed", extra={"job": held.ref, "code": code})

    async def _keep(self) -> None:
        """Renew the leases and the rights we go by; stop what is not ours any more."""
        while True:
            await asyncio.sleep(rules.RENEW_S)
            await self._house.standing.refresh()
            try:
                kept = await self._rows.call(services.renew_lines, worker=self._worker, batch=self._batch)
                # What runs ends as it would; what was taken and not begun is given back.
                paused = await self._rows.call(selectors.pause) is not None
            except DatabaseUnavailableError:
                log.warning("slice_database_unavailable", extra={"batch": self._batch})
                continue
            self._stopped |= kept.stop or paused
            for number, running in list(self._running.items()):
                if kept.stop or number in kept.cancelled:
                    if running.caller is not None:
                        running.caller.left = "cancelled"
                    running.task.cancel()
                elif number not in kept.ids:
                    running.task.cancel()
                elif running.caller is not None:
                    self._check_still(running.task, running.caller)

    def _check_still(self, task: asyncio.Task[None], caller: Caller) -> None:
        """Rights are asked at each piece of an answer; an engine that says nothing gives none to ask at."""
        try:
            self._house.standing.check_still(caller.rights)
        except (PolicyRefusal, StaleError) as refusal:
            caller.left = refusal.code
            task.cancel()

    async def _give_back(self) -> None:
        if self._ready:
            await self._back(list(self._ready), delay=timedelta(0) if not self._stopped else _PAUSE)

    async def _back(self, held: list[services.Held], delay: timedelta = _PAUSE) -> None:
        try:
            await self._rows.call(services.put_back_lines, worker=self._worker, held=held, delay=delay)
        except DatabaseUnavailableError:
            log.warning("slice_database_unavailable", extra={"batch": self._batch})  # the sweep finds them
