"""The checker: what counts as carried, what counts as invented."""

import pytest

from provisioning.evaluation import checker

RECORD = {
    "age": 58,
    "diagnoses": ["type 2 diabetes mellitus", "asthma", "moderate persistent asthma"],
    "codes": ["E11.9", "I10", "99213"],
    "medications": ["metformin 500 mg twice daily"],
}
ANSWER = (
    "This 58-year-old patient has type 2 diabetes mellitus; asthma; moderate persistent asthma. "
    "Codes: E11.9, I10, 99213. Medications: metformin 500 mg twice daily."
)


def test_a_whole_answer_passes() -> None:
    verdict = checker.check(RECORD, ANSWER)
    assert verdict.passed
    assert set(verdict.present) == set(checker.CLASSES)


@pytest.mark.parametrize(
    ("taken", "put", "field"),
    [
        ("58-year-old", "85-year-old", "age"),
        ("58-year-old", "adult", "age"),
        ("diabetes", "diabetis", "diagnoses"),
        ("asthma; moderate", "moderate", "diagnoses"),
        ("E11.9", "E11.90", "codes"),
        ("I10", "I1", "codes"),
        ("99213", "992135", "codes"),
        ("500 mg", "50 mg", "medications"),
    ],
)
def test_one_changed_fact_is_missed(taken: str, put: str, field: str) -> None:
    verdict = checker.check(RECORD, ANSWER.replace(taken, put))
    assert not verdict.present[field]
    assert sum(not present for present in verdict.present.values()) == 1


@pytest.mark.parametrize("code", ["E11.8", "Z79.4", "99214", "J1100", "G20.A1", "0001F", "T36.0X1A"])
def test_a_code_nobody_gave_is_invented(code: str) -> None:
    assert checker.check(RECORD, f"{ANSWER} Also {code}.").invented == (code,)


@pytest.mark.parametrize("text", ["HbA1c 7.9 %", "ICD-10 codes", "on 2026-03-14 at 10:30", "1000 mg", "SpO2 98 %"])
def test_ordinary_words_and_numbers_are_no_codes(text: str) -> None:
    assert checker.codes_in(text) == ()


def test_a_code_given_in_any_field_may_be_repeated() -> None:
    assert checker.check({"plan": "start vitamin B12"}, "Plan: start vitamin B12.").passed


@pytest.mark.parametrize("answer", ["aged 58", "Age: 58.", "you are 58 years old", "su edad es de 58 años"])
def test_an_age_may_be_worded_in_several_ways(answer: str) -> None:
    assert checker.states_age(answer, 58)


@pytest.mark.parametrize("answer", ["58 mg", "158 years", "5.58 years", "age 580"])
def test_a_number_that_is_no_age_does_not_count(answer: str) -> None:
    assert not checker.states_age(answer, 58)
