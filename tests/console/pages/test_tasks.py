"""Tasks and routes: every task with its fields and where it goes, read from what the doors themselves decide by."""

from __future__ import annotations

import pytest

from inference.policy.catalog import DISCLOSURE, TASKS, Capability
from inference.releases import selectors as releases
from inference.releases.models import Deployment
from tests.console.conftest import Enter
from tests.console.door import text
from tests.simulators import lan as lans

pytestmark = pytest.mark.django_db


def test_each_task_stands_there_with_exactly_its_fields(door: Enter) -> None:
    bob = door("bob")
    page = text(bob.get("/tasks"))
    for task in TASKS.values():
        assert f'href="/tasks/{task.id}"' in page
        one = text(bob.get(f"/tasks/{task.id}"))
        listed = one[one.index("What reaches the model") : one.index("What an answer is held against")]
        assert [name for name in task.fields if f'<li class="tag">{name}</li>' in listed] == list(task.fields)
        assert listed.count('<li class="tag">') == len(task.fields)
        assert (DISCLOSURE["es"] in one) == task.patient_facing
    assert bob.get("/tasks/no_such_task").status_code == 404


def test_a_task_says_what_becomes_of_other_fields(door: Enter) -> None:
    bob = door("bob")
    assert "is dropped before the model sees it" in text(bob.get("/tasks/progress_note"))
    assert "anything else is refused" in text(bob.get("/tasks/data_analyst"))
    assert "Nothing is taken out" in text(bob.get("/tasks/conversation"))


def test_without_a_model_every_task_is_refused(door: Enter) -> None:
    assert "Nothing is serving, so every task is refused." in text(door("bob").get("/tasks"))


def test_a_task_goes_where_the_signed_facts_say_and_not_where_the_model_was_not_approved(door: Enter) -> None:
    lans.serve_a_release()
    bob = door("bob")
    assert f"{len(TASKS)} of {len(TASKS)} tasks go to" in text(bob.get("/tasks"))
    change = Deployment.objects.get().change
    change.facts = {**change.facts, "capabilities": [Capability.CHAT]}
    change.facts["routes"].pop("progress_note")
    change.save()
    page = text(bob.get("/tasks"))
    assert f"{len(TASKS) - 3} of {len(TASKS)} tasks go to" in page
    assert "No approved change routes it to a model." in text(bob.get("/tasks/progress_note"))
    assert "was not approved for embeddings: it is refused." in text(bob.get("/tasks/embedding"))
    routed = text(bob.get("/tasks/visit_summary"))
    serving = releases.serving()
    assert serving
    assert f'href="/changes/{serving.change_id}"' in routed
    assert serving.release_digest in routed


def test_who_may_ask_it_is_told_to_those_who_may_see_clients(door: Enter) -> None:
    lans.new_key("ward-7")
    assert 'href="/clients/at/ward-7"' in text(door("bob").get("/tasks/progress_note"))
    page = text(door("alice").get("/tasks/progress_note"))
    assert "ward-7" not in page
    assert "Who may ask it" not in page
