"""Whether a freshly started engine has proved well: it answers, and it answers the release's own golden prompts.

Decides well or not, and says why. What follows from it is the supervisor's. A release without golden prompts passes on
health alone, and its record says so.

golden.json, inside the release and covered by its digest:
{"format": "isoward-golden-v1", "cases": [{"task": ..., "record": {...}, "must_contain": [...], "max_tokens": 200}]}
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.engines.engine import Engine, Order
from inference.engines.errors import EngineError
from inference.policy import catalog
from inference.policy import rules as policy
from inference.policy.ask import Sampling
from inference.policy.errors import PolicyRefusal

GOLDEN = "golden.json"
FORMAT = "isoward-golden-v1"
LARGEST_GOLDEN = 1_000_000
MOST_CASES = 3
"""The gate stands between a crash and the next answer, so it asks a few; the full set is the evaluation's."""


@dataclass(frozen=True)
class Case:
    """One prompt of the release's own, and what its answer must hold."""

    name: str
    task: str
    record: Mapping[str, Any]
    must_contain: Sequence[str]
    max_tokens: int


@dataclass(frozen=True)
class Proof:
    """What the gate saw; stored with the deployment and in the audit record."""

    ok: bool
    code: str
    message: str
    cases: int
    milliseconds: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "code": self.code,
            "message": self.message,
            "cases": self.cases,
            "milliseconds": self.milliseconds,
        }


class GoldenError(Exception):
    """The release's golden file is not one; a release that cannot be proved well does not serve."""


def cases(release: Path) -> tuple[Case, ...]:
    """The golden prompts of an installed release; none when it carries no file of them."""
    try:
        with (release / GOLDEN).open("rb") as stream:
            raw = stream.read(LARGEST_GOLDEN + 1)
    except FileNotFoundError:
        return ()
    try:
        body = json.loads(raw)
        if "cases" not in body:
            return ()  # it holds the publisher's renderings only, which the import has checked
        if body.get("format") != FORMAT:
            raise GoldenError("golden.json has another format than this appliance reads")
        return tuple(
            Case(
                name=f"case {number}",
                task=str(case["task"]),
                record=dict(case["record"]),
                must_contain=tuple(str(part) for part in case["must_contain"]),
                max_tokens=int(case.get("max_tokens", 256)),
            )
            for number, case in enumerate(body["cases"][:MOST_CASES], start=1)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GoldenError("golden.json cannot be read") from error


def prove(engine: Engine, *, slot: str, model: str, golden: Sequence[Case]) -> Proof:
    """Ask each golden prompt; the engine is known to answer its health check by now."""
    began = time.monotonic()
    code, message = "", f"{len(golden)} golden prompts answered as they should" if golden else "no golden prompts"
    for case in golden:
        try:
            answer = asyncio.run(_ask(engine, slot=slot, model=model, case=case))
        except EngineError as error:
            code, message = "golden_failed", f"{case.name}: {error.message}"
            break
        missing = sum(part.casefold() not in answer.casefold() for part in case.must_contain)
        if missing:
            # Counted, not quoted: nothing a model says goes into the ledger.
            code, message = "golden_mismatch", f"{case.name}: {missing} of {len(case.must_contain)} facts are missing"
            break
    milliseconds = int((time.monotonic() - began) * 1000)
    return Proof(ok=not code, code=code, message=message, cases=len(golden), milliseconds=milliseconds)


async def _ask(engine: Engine, *, slot: str, model: str, case: Case) -> str:
    task = catalog.TASKS.get(case.task)
    if task is None:
        raise EngineError(f"the golden prompt is for a task this appliance does not know: {case.task}")
    try:
        prompt = policy.minimize(case.record, task)
    except PolicyRefusal as error:
        raise EngineError(f"the golden prompt is one this appliance refuses: {error.code}") from error
    order = Order(
        slot=slot,
        model=model,
        prompt=prompt,
        sampling=Sampling(max_tokens=case.max_tokens, temperature=0.0, seed=0),
        priority=0,
        cache_salt=secrets.token_hex(16),
        request_id=f"gate-{secrets.token_hex(8)}",
    )
    try:
        return "".join([piece.text async for piece in engine.generate(order)])
    finally:
        # Each question runs in an event loop of its own; a connection must not outlive it.
        await engine.close()
