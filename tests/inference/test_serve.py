"""Flow B between a request's coming and its turn: what changed meanwhile is asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.utils import timezone

from appliance.audit.errors import AuditUnavailableError
from inference.policy.ask import Ask, Turn
from inference.policy.catalog import Capability, Lane
from inference.policy.errors import PolicyRefusal
from inference.policy.rules import Rights
from inference.releases.selectors import Serving
from inference.serve import Caller, House, answer

RIGHTS = Rights("ward-7", "iwk_1", frozenset({"conversation"}), frozenset({"TREAT"}), Lane.INTERACTIVE, phi=True)
FIRST = Serving(
    deployment_id=1, release_digest="a" * 64, name="eval", version=1, title="", served_model_name="m", change_id=1,
    slot="a", since=timezone.now(), routes={"conversation": "m"}, capabilities=frozenset(Capability),
    degraded_since=None, degraded_reason="",
)  # fmt: skip
SECOND = replace(FIRST, release_digest="b" * 64, version=2, slot="b")


class Standing:
    """Two releases one after the other, each with its own tokenizer."""

    def __init__(self) -> None:
        self.now, self.tokens = FIRST, frozenset({"<a>"})

    def serving(self) -> Serving:
        return self.now

    def current(self) -> Any:
        return SimpleNamespace(control_tokens=self.tokens)

    def check_still(self, rights: Rights) -> None:
        pass


class Line:
    """The release changes while the request stands in line."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    @asynccontextmanager
    async def slot(self, **_: object) -> AsyncIterator[None]:
        self._standing.now, self._standing.tokens = SECOND, frozenset({"<b>"})
        yield


class Book:
    async def put(self, *_: object, **__: object) -> Any:
        raise AuditUnavailableError("the intent was reached")


async def ask(text: str) -> None:
    standing = Standing()
    house = House(cast("Any", standing), cast("Any", Line(standing)), Book(), cast("Any", None), b"salt")
    found = Ask(model="m", task="conversation", purpose="TREAT", turns=(Turn("user", text),))
    async for _ in answer(found, caller=Caller(RIGHTS, "req_1"), house=house):
        pass


async def test_text_that_the_release_of_now_reads_as_a_control_token_is_refused() -> None:
    with pytest.raises(PolicyRefusal, match="special_token_in_content"):
        await ask("Cough? <b>")


async def test_other_text_goes_on_under_the_new_release() -> None:
    with pytest.raises(AuditUnavailableError, match="reached"):
        await ask("Cough?")
