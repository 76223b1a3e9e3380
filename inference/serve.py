"""Flow B, top to bottom: allowed? less? room? told? run. told.

Decides the order of the gates and that no gate can be passed without the one before it. What each gate refuses is its
own app's; what a refusal looks like on the wire is `inference.api.errors`. Both doors run this same function: the LAN
API for a caller who waits, the queue for one who does not.

- The intent is durable before the engine sees a byte, and the outcome is written however it ended.
- The receipt comes last, after the outcome is durable: an answer without its record is never called complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.entry import Entry, Position, now_us
from appliance.audit.errors import AuditUnavailableError
from inference.admission.errors import DeadlineExceededError, StaleError
from inference.admission.lanes import Lanes
from inference.admission.standing import Standing
from inference.engines.engine import PRIORITY, Engine, Finish, Order, Piece, Usage
from inference.engines.errors import EngineError
from inference.policy import checks, rules
from inference.policy.ask import Ask, Prompt
from inference.policy.catalog import Task
from inference.policy.errors import PolicyRefusal
from inference.policy.rules import Decision, Rights
from inference.releases.selectors import Serving


class Book(Protocol):
    """Where the pair of records goes. Durable on return, or AuditUnavailableError."""

    def put(self, entry: Entry, *, keep: bool = False) -> Awaitable[Position]: ...


_LONGEST_WAIT_S = 5.0
_RIGHTS_HOLD_S = 0.25
"""Rights are read every second, and at once when they change. To ask of each token cost as much as the token."""


@dataclass
class Caller:
    """Whom an answer is for. The door writes down why it stops listening before it does."""

    rights: Rights
    request_id: str
    left: str = "interrupted"
    deadline: float | None = None
    """Of `time.monotonic`: an answer that is not whole by then is of no use."""


@dataclass(frozen=True)
class House:
    """The standing parts of this process."""

    standing: Standing
    lanes: Lanes
    book: Book
    engine: Engine
    salt: bytes


@dataclass(frozen=True)
class Receipt:
    """What every answer carries, so that it can be found again."""

    request_id: str
    release_digest: str
    change_id: int
    audit: Position
    task: str
    purpose: str
    dropped_fields: tuple[str, ...]
    model: str
    checked: checks.Checked | None = None
    """What the draft was held against; only once it is whole."""

    def as_json(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "release_digest": self.release_digest,
            "change_id": self.change_id,
            "audit": {"shard": self.audit.shard, "seq": self.audit.seq},
            "task": self.task,
            "purpose": self.purpose,
            "dropped_fields": list(self.dropped_fields),
            "checks": None if self.checked is None else self.checked.as_json(),
            "ai_generated": True,
        }


@dataclass(frozen=True)
class Opened:
    """The intent is on record; text may follow."""

    receipt: Receipt


@dataclass(frozen=True)
class Done:
    """The outcome is on record too; the answer is whole."""

    receipt: Receipt
    finish: Finish
    usage: Usage


async def answer(ask: Ask, *, caller: Caller, house: House) -> AsyncGenerator[Opened | Piece | Done, None]:
    """Opened, then pieces, then Done; or one of the refusals named on each line."""
    serving = house.standing.serving()  # StaleError, NoModelError
    rules.check_model(ask.model, serving.served_model_name, caller.rights)  # PolicyRefusal
    decision = rules.decide(ask, caller.rights)  # PolicyRefusal
    check_route(decision.task, serving)  # PolicyRefusal
    prompt = rules.prepare(ask, decision.task, control=house.standing.current().control_tokens)  # PolicyRefusal
    check_can(prompt, serving)  # PolicyRefusal
    async with house.lanes.slot(  # AdmissionError: full, too late, or the cards are too hot
        lane=decision.lane,
        client=caller.rights.client,
        chars=0 if prompt.audio else len(prompt.content),
        max_tokens=ask.sampling.max_tokens,
        deadline=caller.deadline,
    ) as place:
        serving = _recheck(ask, decision, prompt, caller, house, serving)  # it may have stood in line
        pair = Pair(house.book, caller, _intent(ask, decision, prompt, caller, serving))
        try:
            receipt = _receipt(await pair.intend(), caller, serving, decision, prompt)  # AuditUnavailableError
            yield Opened(receipt)
            order = _order(ask, decision, prompt, caller, serving, house.salt)
            async with aclosing(place.in_time(house.engine.generate(order))) as pieces:
                ask_again = 0.0
                async for piece in pieces:
                    if (now := time.monotonic()) >= ask_again:
                        house.standing.check_still(caller.rights)  # PolicyRefusal: revoked while it ran; StaleError
                        ask_again = now + _RIGHTS_HOLD_S
                    if not piece.more:
                        place.saw(piece)
                    pair.saw(piece)
                    yield piece
            cut = pair.finish is Finish.LENGTH
            pair.checked = checks.judge(decision.task, prompt, pair.text, cut=cut)  # PolicyRefusal
            if told := rules.disclosure(decision.task, prompt):
                pair.saw(piece := Piece(told, pair.usage))
                yield piece
            await pair.conclude("ok")  # AuditUnavailableError: not called complete
            yield Done(replace(receipt, checked=pair.checked), pair.finish, pair.usage)
        except (EngineError, PolicyRefusal, DeadlineExceededError, StaleError) as error:
            await pair.broke_off(error.code)
            raise
        finally:
            # However it ended: the caller left, the process stops, or a bug of ours.
            await pair.broke_off(caller.left)


def salt(secret: bytes) -> bytes:
    """The box's own salt for prefix caches, from a secret of the box; no other use of that secret gives the same."""
    return hmac.new(secret, b"isoward-cache-salt-v1", hashlib.sha256).digest()


def refused_as(code: str, otherwise: Action) -> tuple[Action, dict[str, str]]:
    """What a refusal is in the log, with what its detail says of it: PHI without the right is an act of its own (S4-7)."""
    if code != "phi_not_granted":
        return otherwise, {}
    return Action.PHI_UNAUTHORIZED_ATTEMPT, {"event": "unauthorized_phi_access_attempt"}


def check_route(task: Task, serving: Serving) -> None:
    """The approved change routes this task to the model that serves; deterministic, and never a guess (S0-10)."""
    if serving.routes.get(task.id) != serving.served_model_name:
        raise PolicyRefusal("task_not_routed", "no approved change routes that task to a model", param="metadata.task")


def check_can(prompt: Prompt, serving: Serving) -> None:
    """The model that serves was approved for this kind of work: text, embeddings or transcription."""
    if rules.needs(prompt) not in serving.capabilities:
        raise PolicyRefusal("model_cannot", "the model that is served cannot do that kind of work", param="model")


def _recheck(ask: Ask, decision: Decision, prompt: Prompt, caller: Caller, house: House, before: Serving) -> Serving:
    """What serves now, under the rights of now: between a request's coming and its turn either may have changed."""
    house.standing.check_still(caller.rights)
    serving = house.standing.serving()
    rules.check_model(ask.model, serving.served_model_name, caller.rights)
    check_route(decision.task, serving)
    check_can(prompt, serving)
    if serving.release_digest != before.release_digest:  # another tokenizer reads other text as more than text
        rules.prepare(ask, decision.task, control=house.standing.current().control_tokens)
    return serving


class Pair:
    """The intent and the outcome of one attempt: exactly one of each, and never the second without the first."""

    def __init__(self, book: Book, caller: Caller, intent: Entry) -> None:
        self._book = book
        self._caller = caller
        self._intent = intent
        self._intended: asyncio.Future[Position] | None = None
        self._concluded: asyncio.Future[Position] | None = None
        self._pieces: list[str] = []
        self.finish = Finish.STOP
        self.usage = Usage()
        self.checked: checks.Checked | None = None

    async def intend(self) -> Position:
        """Durable on return. A caller who leaves meanwhile cannot stop the writing, only the waiting."""
        self._intended = asyncio.ensure_future(self._book.put(self._intent))
        return await asyncio.shield(self._intended)

    def saw(self, piece: Piece) -> None:
        self._pieces.append(piece.text)
        self.usage = piece.usage
        self.finish = piece.finish or self.finish

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    async def conclude(self, outcome: str) -> None:
        """Write how it ended, once; the first word counts. Nothing when no intent was written."""
        if self._intended is None:
            return
        if self._concluded is None:
            written = self._outcome(self._intended, outcome) if self._intended.done() else self._late(outcome)
            self._concluded = asyncio.ensure_future(written)
            self._concluded.add_done_callback(_looked_at)
        if not self._concluded.done():
            # Only waited for: being cancelled ourselves is the very thing to be recorded. The book keeps an outcome
            # until the database is back; the caller is not kept that long.
            await asyncio.wait((self._concluded,), timeout=_LONGEST_WAIT_S)
        if not self._concluded.done():
            raise AuditUnavailableError("the outcome is not on record yet")
        self._concluded.result()

    async def broke_off(self, outcome: str) -> None:
        """The same for what is not whole. Nothing is called complete, so the caller is told why it ended even when the
        record of that has to wait: the refusal must not turn into another one, nor a cancelled task into one that is not.
        """
        with contextlib.suppress(AuditUnavailableError):
            await self.conclude(outcome)

    async def _late(self, outcome: str) -> Position:
        """The caller left before the intent was durable: its outcome follows it."""
        if self._intended is None:
            raise RuntimeError("an outcome before its intent")
        await asyncio.wait((self._intended,))
        return await self._outcome(self._intended, outcome)

    def _outcome(self, intended: asyncio.Future[Position], outcome: str) -> Awaitable[Position]:
        try:
            position = intended.result()
        except AuditUnavailableError:
            return _nothing()  # nothing ran, and there is no intent to answer
        hmac_key, answer_hmac = audit.fingerprint(self.text.encode()) if self._pieces else ("", "")
        ended = {
            "at_us": now_us(),
            "kind": "outcome",
            "action": Action.INFERENCE_ANSWERED.value,
            "outcome": outcome,
            "answer_hmac": answer_hmac,
            "hmac_key": hmac_key or self._intent.hmac_key,
            "input_tokens": self.usage.input_tokens,
            "output_tokens": self.usage.output_tokens,
            "detail": json.dumps(
                {"intent": [position.shard, position.seq], **_proved(self._caller.rights), **self._checks()}
            ),
        }
        return self._book.put(Entry(**(vars(self._intent) | ended)), keep=True)

    def _checks(self) -> dict[str, Any]:
        return {} if self.checked is None else {"checks": self.checked.as_json()}


async def _nothing() -> Position:
    return Position(0, 0)


def _looked_at(task: asyncio.Future[Position]) -> None:
    """A task whose waiter has gone must not report its error as one nobody looked at."""
    if not task.cancelled():
        task.exception()


def _intent(ask: Ask, decision: Decision, prompt: Prompt, caller: Caller, serving: Serving) -> Entry:
    hmac_key, prompt_hmac = audit.fingerprint(prompt.content)
    patient_tag = audit.fingerprint(ask.patient_id.encode(), use="patient")[1] if ask.patient_id else ""
    return Entry(
        at_us=now_us(),
        kind="intent",
        action=Action.INFERENCE_REQUESTED.value,
        actor=caller.rights.client,
        outcome="started",
        target=decision.task.id,
        request_id=caller.request_id,
        client=caller.rights.client,
        key_id=caller.rights.key_id,
        end_user=caller.rights.end_user or ask.end_user,
        purpose=decision.purpose,
        task=decision.task.id,
        data_class=decision.data_class.value,
        model=serving.served_model_name,
        release=serving.release_digest,
        change_id=serving.change_id,
        prompt_hmac=prompt_hmac,
        patient_tag=patient_tag,
        hmac_key=hmac_key,
        detail=json.dumps(
            {
                "dropped": list(prompt.dropped),
                "lane": decision.lane.value,
                **_proved(caller.rights),
                **_size(prompt),
            }
        ),
    )


def _proved(rights: Rights) -> dict[str, Any]:
    """A name in the body is the app's word; a name in an assertion is proved, by whom it says."""
    vouched = {"vouched_by": rights.vouched_by} if rights.vouched_by else {}
    return {"user_proved": bool(rights.end_user), **vouched}


def _size(prompt: Prompt) -> dict[str, int]:
    """How much was asked, where no token counts will say so."""
    if prompt.audio is not None:
        return {"audio_bytes": len(prompt.audio.data)}
    return {"texts": len(prompt.inputs)} if prompt.inputs else {}


def _receipt(position: Position, caller: Caller, serving: Serving, decision: Decision, prompt: Prompt) -> Receipt:
    return Receipt(
        request_id=caller.request_id,
        release_digest=serving.release_digest,
        change_id=serving.change_id,
        audit=position,
        task=decision.task.id,
        purpose=decision.purpose,
        dropped_fields=prompt.dropped,
        model=serving.served_model_name,
    )


def _order(
    ask: Ask,
    decision: Decision,
    prompt: Prompt,
    caller: Caller,
    serving: Serving,
    salt: bytes,
) -> Order:
    return Order(
        slot=serving.slot,
        model=serving.served_model_name,
        prompt=prompt,
        sampling=ask.sampling,
        priority=PRIORITY[decision.lane],
        # T14: one client can never learn from timing what another one asked.
        cache_salt=hmac.new(salt, caller.rights.client.encode(), hashlib.sha256).hexdigest(),
        request_id=caller.request_id,
    )
