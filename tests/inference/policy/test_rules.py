"""Who may ask what, and how little of it the model sees."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from inference.policy import rules
from inference.policy.ask import Ask, Audio, Decimal, Tool
from inference.policy.catalog import PURPOSES, TASKS, DataClass, Lane
from inference.policy.errors import PolicyRefusal
from inference.policy.rules import Rights
from provisioning.evaluation import clinical

RIGHTS = Rights("ward-7", "iwk_1", frozenset({"progress_note"}), frozenset({"TREAT"}), Lane.INTERACTIVE, phi=True)
ASK = Ask(model="m", record={"age": 71}, task="progress_note", purpose="TREAT")


def code(ask: Ask, rights: Rights = RIGHTS) -> str:
    with pytest.raises(PolicyRefusal) as refused:
        rules.decide(ask, rights)
    return refused.value.code


def test_a_granted_task_for_a_granted_purpose_is_allowed_in_the_keys_own_lane() -> None:
    decision = rules.decide(ASK, RIGHTS)
    assert (decision.task.id, decision.purpose, decision.lane) == ("progress_note", "TREAT", Lane.INTERACTIVE)


def test_unlabelled_data_is_phi() -> None:
    assert rules.decide(ASK, RIGHTS).data_class is DataClass.PHI
    assert code(ASK, replace(RIGHTS, phi=False)) == "phi_not_granted"
    assert rules.decide(replace(ASK, data_class="synthetic"), replace(RIGHTS, phi=False)).data_class == "synthetic"


def test_a_record_of_a_patient_is_phi_whatever_its_label() -> None:
    assert code(replace(ASK, data_class="deidentified", patient_id="4711")) == "data_class_conflict"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"purpose": ""}, "purpose_required"),
        ({"purpose": "BILLING"}, "purpose_unknown"),
        ({"purpose": "treat"}, "purpose_unknown"),
        ({"purpose": "HMARKT"}, "purpose_not_granted"),
        ({"task": ""}, "task_required"),
        ({"task": "essay"}, "task_unknown"),
        ({"task": "visit_summary"}, "task_not_granted"),
    ],
)
def test_what_is_missing_or_not_granted_is_refused_with_its_code(changes: dict[str, Any], expected: str) -> None:
    assert code(replace(ASK, **changes)) == expected


def test_there_are_the_nine_purposes_of_hl7() -> None:
    assert PURPOSES == ("COVERAGE", "ETREAT", "HMARKT", "HOPERAT", "HPAYMT", "HRESCH", "PATRQT", "PUBHLTH", "TREAT")


def test_the_model_sees_the_tasks_fields_in_the_tasks_order_and_no_other() -> None:
    record = {"plan": "rest", "name": "X", "age": 71, "codes": ["J20.9"], "mrn": "1"}
    kept = rules.minimize(record, TASKS["progress_note"])
    assert kept.turns[1].content == '{"age": 71, "codes": ["J20.9"], "plan": "rest"}'
    assert kept.dropped == ("mrn", "name")


def test_a_key_that_is_no_plain_name_is_counted_and_not_named() -> None:
    record = {"age": 71, "Jane Doe 1942": 1, "née": 2, "x" * 41: 3, "ok_name": 4}
    assert rules.minimize(record, TASKS["progress_note"]).dropped == ("ok_name", "(3 unnamed)")


def test_a_record_with_nothing_for_the_task_is_refused() -> None:
    with pytest.raises(PolicyRefusal) as refused:
        rules.minimize({"name": "X"}, TASKS["progress_note"])
    assert refused.value.code == "record_empty"


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "<|im_start|>system", "<|endoftext|>", "</s>", "<s>", "[INST]", "<<SYS>>", "<pad>", "<EOS>"]
)
@pytest.mark.parametrize("place", ["value", "list", "key"])
def test_a_control_token_of_a_model_is_refused_wherever_it_stands(text: str, place: str) -> None:
    value = {"value": f"a {text} b", "list": [["x", text]], "key": {text: 1}}[place]
    with pytest.raises(PolicyRefusal) as refused:
        rules.minimize({"plan": value}, TASKS["progress_note"])
    assert refused.value.code == "special_token_in_content"


def test_ordinary_signs_are_no_control_tokens() -> None:
    plan = "BP <120 | pain <3> [see note] a<b>c 5 < 6 > 4 <|>"
    assert rules.minimize({"plan": plan}, TASKS["progress_note"]).kept == {"plan": plan}


def test_the_catalogue_is_what_the_evaluation_model_was_trained_on() -> None:
    assert {name: (TASKS[name].fields, TASKS[name].instruction) for name in clinical.TASKS} == {
        name: (form.fields, form.instruction) for name, form in clinical.TASKS.items()
    }


@pytest.mark.parametrize(
    "value", [None, True, 7, 'é " \\ \n', [], {}, [1, [2, {"a": None}]], {"b": 1, "a": "x"}, -3, 0.5]
)
def test_a_record_is_written_as_json_writes_it(value: Any) -> None:
    assert rules.render(value) == json.dumps(value, ensure_ascii=False)


def test_numbers_are_written_as_they_came() -> None:
    assert rules.render({"inr": Decimal("1.20"), "crp": [Decimal("1E2")]}) == '{"inr": 1.20, "crp": [1E2]}'


@pytest.mark.parametrize(
    "wanted", [{"schema": {"type": "object"}}, {"tools": (Tool("t", "", {}),), "tool_choice": "t"}]
)
@pytest.mark.parametrize(
    "ask",
    [
        ASK,
        replace(ASK, task="conversation", record=None, prompt="Cough"),
        replace(ASK, task="embedding", record=None, inputs=("Cough",)),
        replace(ASK, task="transcription", record=None, audio=Audio(bytearray(b"x"), "audio/wav")),
    ],
    ids=["record", "prompt", "texts", "recording"],
)
def test_what_only_a_conversation_can_have_is_refused_elsewhere_and_never_dropped(ask: Ask, wanted: Any) -> None:
    rules.prepare(ask, TASKS[ask.task])
    with pytest.raises(PolicyRefusal, match="task_form"):
        rules.prepare(replace(ask, **wanted), TASKS[ask.task])


def test_tools_that_may_not_be_called_change_nothing() -> None:
    offered = replace(ASK, tools=(Tool("t", "", {}),), tool_choice="none")
    assert rules.prepare(offered, TASKS[ASK.task]) == rules.prepare(ASK, TASKS[ASK.task])
