"""The generator: the same seed gives the same cases, and what is held out stays out."""

import itertools
import json
import re

import pytest

from provisioning.evaluation import checker, clinical, vocabulary
from provisioning.evaluation.clinical import Case, Words

SAMPLE = 1500


@pytest.fixture(scope="module")
def training() -> list[Case]:
    """Draw a good number of training cases."""
    return list(itertools.islice(clinical.training_cases(3), SAMPLE))


def test_the_same_seed_gives_the_same_cases(training: list[Case]) -> None:
    assert list(itertools.islice(clinical.training_cases(3), SAMPLE)) == training
    assert clinical.measuring_cases(7, 30, Words.KNOWN) == clinical.measuring_cases(7, 30, Words.KNOWN)


def test_another_seed_gives_other_cases(training: list[Case]) -> None:
    other = {case.user for case in itertools.islice(clinical.training_cases(4), 200)}
    assert len(other & {case.user for case in training}) <= 2


def test_no_training_case_is_held_out_and_every_measuring_case_is(training: list[Case]) -> None:
    assert not any(case.held_out for case in training)
    for words in (Words.KNOWN, Words.UNSEEN, Words.MADE_UP):
        measuring = clinical.measuring_cases(7, 60, words)
        assert all(case.held_out for case in measuring)
        assert len({case.task + case.user for case in measuring}) == len(measuring)


def test_training_never_shows_an_unseen_name_or_code(training: list[Case]) -> None:
    told = "\n".join(f"{case.user}\n{case.answer}" for case in training).lower()
    for name in (*vocabulary.UNSEEN_CONDITIONS, *vocabulary.UNSEEN_DRUGS, *vocabulary.UNSEEN_SERVICES):
        assert name.lower() not in told
    for case in training:
        assert not clinical.UNSEEN_CODES.intersection(checker.codes_in(case.answer))


def test_unseen_cases_use_unseen_names_only() -> None:
    for case in clinical.measuring_cases(7, 60, Words.UNSEEN):
        assert set(checker.strings(case.record, "diagnoses")) <= set(vocabulary.UNSEEN_CONDITIONS)
        assert set(checker.strings(case.record, "codes")) <= clinical.UNSEEN_CODES
        for drug in checker.strings(case.record, "medications"):
            assert drug.split()[0] in vocabulary.UNSEEN_DRUGS


def test_records_hold_only_declared_fields_in_the_declared_order(training: list[Case]) -> None:
    for case in training:
        declared = clinical.TASKS[case.task].fields
        assert list(case.record) == [field for field in declared if field in case.record]


def test_some_records_lack_fields_and_every_task_occurs(training: list[Case]) -> None:
    assert {case.task for case in training} == set(clinical.TASKS)
    lacking = sum(len(case.record) < len(clinical.TASKS[case.task].fields) for case in training)
    assert SAMPLE * 0.2 < lacking < SAMPLE * 0.4


def test_every_reference_answer_carries_every_fact_and_invents_nothing(training: list[Case]) -> None:
    for case in (*training, *clinical.measuring_cases(7, 120, Words.UNSEEN)):
        verdict = checker.check(case.record, case.answer)
        assert verdict.passed, (verdict, case)


def test_no_reference_answer_leaves_a_gap_in_its_wording(training: list[Case]) -> None:
    for case in training:
        assert case.answer == case.answer.strip()
        assert not re.search(r"  | \.|\.\.|None", case.answer), case.answer


def test_urgency_is_one_word_then_one_sentence(training: list[Case]) -> None:
    for case in training:
        if case.task == "urgency_classification":
            level, sentence = case.answer.split("\n")
            assert level in {"emergency", "urgent", "routine"}
            assert sentence.endswith(".")


def test_a_request_is_the_instruction_and_the_record_as_json() -> None:
    record = {"codes": ["E11.9"], "age": 58, "stray": "dropped"}
    system, user = clinical.messages("visit_summary", record)
    assert system == {"role": "system", "content": "Write a visit summary from this record."}
    assert user["role"] == "user"
    assert user["content"] == '{"age": 58, "codes": ["E11.9"]}'
    assert json.loads(user["content"]) == {"age": 58, "codes": ["E11.9"]}


def test_spanish_records_get_spanish_answers(training: list[Case]) -> None:
    spanish = [case for case in training if case.record.get("language") == "es"]
    assert spanish
    assert all(case.answer.startswith("Hola:") for case in spanish)
