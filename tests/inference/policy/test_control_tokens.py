"""Text of a caller's never reaches the model with something in it that its tokenizer reads as more than text (G120)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.policy import rules
from inference.policy.ask import Ask, Prompt, Turn
from inference.policy.catalog import TASKS
from inference.policy.errors import PolicyRefusal
from provisioning import bundle as bundles

TOKENIZER = json.loads(
    (Path(__file__).resolve().parents[3] / "offline-bundles/evaluation/targets/isoward-clinical-demo/tokenizer.json")
    .read_text(encoding="utf-8")
)  # fmt: skip
OTHERS = [
    {"content": "[[WARD]]", "special": True},
    {"content": "\u2581<\uff5cturn\u2581end\uff5c>", "special": True},
    {"content": "~~~", "special": True},
    {"content": "\u00a7", "special": True},
    {"content": "a+b(c)*", "special": True},
    {"content": "<tool_call>", "special": False},
]
CONTROL = bundles.control_tokens({"added_tokens": [*TOKENIZER["added_tokens"], *OTHERS]})
ASK = Ask(model="default", task="conversation", purpose="TREAT")
text = st.text(st.characters(codec="utf-8"), max_size=40)


def refused(ask: Ask) -> str:
    with pytest.raises(PolicyRefusal) as error:
        rules.prepare(ask, TASKS[ask.task], control=CONTROL)
    return error.value.code


def nested(value: str) -> st.SearchStrategy[Any]:
    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(inner, min_size=1, max_size=2) | st.dictionaries(text, inner, min_size=1, max_size=2)

    return st.recursive(st.just(value), around, max_leaves=4)


def test_special_tokens_are_control_tokens_and_runs_of_spaces_are_not() -> None:
    assert {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "[[WARD]]", "<tool_call>"} <= CONTROL
    assert bundles.control_tokens({"added_tokens": [{"content": "    ", "special": False}, {"content": ""}]}) == set()


@given(token=st.sampled_from(sorted(CONTROL)), before=text, after=text)
def test_no_control_token_passes_wherever_it_stands(token: str, before: str, after: str) -> None:
    found = f"{before}{token}{after}"
    turns = (Turn("system", "Be brief."), Turn("user", "Hello."), Turn("assistant", found))
    assert refused(replace(ASK, turns=turns)) == "special_token_in_content"
    assert refused(replace(ASK, prompt=found)) == "special_token_in_content"
    assert refused(replace(ASK, task="embedding", inputs=("well", found))) == "special_token_in_content"


@given(data=st.data(), token=st.sampled_from(sorted(CONTROL)))
def test_no_control_token_passes_in_a_record_however_deep(data: st.DataObject, token: str) -> None:
    record = {"age": 71, "plan": data.draw(nested(f"rest {token}"))}
    assert refused(replace(ASK, task="progress_note", record=record)) == "special_token_in_content"
    named = {"age": 71, "plan": [{token: "rest"}]}
    assert refused(replace(ASK, task="progress_note", record=named)) == "special_token_in_content"


@pytest.mark.parametrize(
    "spelled", ["<|IM_END|>", "\uff1c|im_end|\uff1e", "[[ward]]", "<TOOL_CALL>", "\uff3b\uff3bWARD\uff3d\uff3d"]
)
def test_another_case_or_width_is_the_same_token_to_a_tokenizer_that_normalizes(spelled: str) -> None:
    assert refused(replace(ASK, prompt=spelled)) == "special_token_in_content"


@given(words=st.lists(st.text("abcdefgäñß0123456789 .,:;<>[]|/=%-\n", max_size=30), max_size=8))
def test_a_text_without_one_passes_as_it_is(words: list[str]) -> None:
    found = f"x {' '.join(words)}"
    if any(mark in found for mark in ("<|", "</", "<s", "[i", "[/")):
        return
    assert rules.prepare(replace(ASK, prompt=found), TASKS["conversation"], control=CONTROL) == Prompt(raw=found)


def test_less_than_and_brackets_of_a_lab_report_are_only_text() -> None:
    plan = "CRP <5 mg/l, Na 135-145 [mmol/l], <b>bold</b>, a|b, [x] done, ph>7.2 and <3 days"
    rules.prepare(replace(ASK, task="progress_note", record={"plan": plan}), TASKS["progress_note"], control=CONTROL)
