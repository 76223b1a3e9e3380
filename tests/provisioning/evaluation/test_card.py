"""The model card and the golden cases say what the model is for and what its answers owe."""

from provisioning.evaluation import card, checker, clinical

TRAINING = {"parameters": 1, "plan": {"seed": 5}}
MEASURED = {
    "required": 0.97,
    "met": True,
    "seed": 7,
    **{name: {"overall": {}} for name in ("known", "unseen", "made_up")},
}


def test_the_card_says_it_is_not_for_clinical_use() -> None:
    written = card.card(TRAINING, MEASURED)
    assert written["intended_use"] == "Demonstrates the appliance. Not for clinical use."
    assert written["license"] == "Apache-2.0"
    assert written["source"].endswith("seeds 5")


def test_the_card_names_the_seed_of_each_run() -> None:
    second = {"parameters": 1, "plan": {"seed": 6}, "continues": TRAINING}
    assert card.card(second, MEASURED)["source"].endswith("seeds 5 then 6")


def test_golden_cases_cover_every_task_and_both_languages() -> None:
    cases = card.golden()
    assert len(cases) >= 12
    assert {case["task"] for case in cases} == set(clinical.TASKS)
    for task in ("patient_message", "appointment_reminder"):
        assert {case["record"]["language"] for case in cases if case["task"] == task} == set(clinical.LANGUAGES)


def test_golden_records_follow_their_task_and_facts_come_from_the_record() -> None:
    for case in card.golden():
        assert list(case["record"]) == [f for f in clinical.TASKS[case["task"]].fields if f in case["record"]]
        told = clinical.messages(case["task"], case["record"])[1]["content"]
        assert all(fact in told for fact in case["facts"])
        assert set(checker.codes_in(told)) == set(case["codes_allowed"])
