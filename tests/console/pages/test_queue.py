"""Queue: places in the line, the acts of staff with what each will do, and who may not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from inference.queue import selectors as queue
from inference.queue import services
from inference.queue.models import Batch, Job
from tests.console.conftest import Enter
from tests.console.door import records, text
from tests.console.furnished import ASK, RIGHTS
from tests.console.test_lists import asked, through

pytestmark = pytest.mark.django_db
WHY = "The app asked for it."


def job(number: int = 0) -> str:
    return services.submit(actor="ward-7", rights=RIGHTS, ask=ASK, request_id=f"r{number}").ref


def batch() -> str:
    source = services.begin_file(rights=RIGHTS, name="a.jsonl")
    services.add_piece(ref=source, number=0, content=b"{}\n{}\n")
    services.finish_file(actor="ward-7", rights=RIGHTS, ref=source, lines=2, request_id="r")
    return services.accept_batch(actor="ward-7", rights=RIGHTS, input_file=source).ref


def many() -> None:
    now = timezone.now()
    Job.objects.bulk_create(
        Job(
            ref=f"job_{number:024x}", client=f"ward-{number % 4}", key_id="iwk_00000000", task="progress_note",
            purpose="TREAT", state="queued" if number % 2 else "cancelled", payload=b"x", not_before=now, rung_at=now,
            body_hmac="", finished=None if number % 2 else now,
        )
        for number in range(230)
    )  # fmt: skip
    Batch.objects.bulk_create(
        Batch(
            ref=f"batch_{number:024x}", client=f"ward-{number % 4}", key_id="iwk_00000000", endpoint="/v1/x",
            input_file="file_1", rights=b"x", state="completed" if number % 2 else "expired", total=5, succeeded=3,
            failed=2, rung_at=now, body_hmac="", expires=now + timedelta(days=1), finished=now,
        )
        for number in range(230)
    )  # fmt: skip


@pytest.mark.parametrize("path", ["/queue/jobs", "/queue/batches"])
def test_each_job_and_batch_is_on_one_page_and_can_be_found(path: str, door: Enter) -> None:
    many()
    bob = door("bob")
    for order in ("accepted", "-accepted", "client", "state"):
        pages = through(bob, f"{path}?order={order}")
        assert [len(page) for page in pages] == [50, 50, 50, 50, 30]
        assert len({row for page in pages for row in page}) == 230
    assert "1 to 50 of 58" in asked(bob, f"{path}?client=ward-1")
    assert "Nothing matches" in asked(bob, f"{path}?client=ward-9")
    assert "This filter cannot be read" in asked(bob, f"{path}?state=lost")
    assert "This filter cannot be read" in asked(bob, f"{path}?text=%25")


def test_a_job_says_its_place_in_the_whole_line(door: Enter) -> None:
    first, second = job(1), job(2)
    bob = door("bob")
    assert "It is next." in text(bob.get(f"/queue/jobs/{first}"))
    assert "1 job is before it." in text(bob.get(f"/queue/jobs/{second}"))
    assert bob.get("/queue/jobs/job_none").status_code == 404
    assert bob.get("/queue/batches/batch_none").status_code == 404


def test_a_pause_says_first_what_it_will_do_and_stands_on_the_page_until_it_is_over(door: Enter) -> None:
    job()
    alice, bob = door("alice"), door("bob")
    before = text(alice.get("/queue/pause"))
    assert "1 job that waits does not begin" in before
    assert queue.pause() is None
    assert "This field is required." in text(alice.post("/queue/pause", reason=" "))
    assert queue.pause() is None
    alice.post("/queue/pause", reason=WHY)
    for person in (alice, bob):
        page = text(person.get("/queue"))
        assert "The durable lane is paused" in page
        assert WHY in page
        assert ("Let the line go on" in page) == (person is alice)
    again = text(alice.browser.post("/queue/pause", {"reason": WHY}, follow=True))
    assert "already_paused" in again
    alice.post("/queue/resume")
    assert "is paused" not in text(bob.get("/queue"))
    assert [row.actor for row in records(action="queue.paused")] == ["alice"]


def test_who_may_not_manage_the_queue_is_offered_nothing_and_refused(door: Enter) -> None:
    ref = job()
    bob = door("bob")
    assert "Pause the line" not in text(bob.get("/queue"))
    assert "End this job" not in text(bob.get(f"/queue/jobs/{ref}"))
    for path in ("/queue/pause", "/queue/resume", f"/queue/jobs/{ref}/stop"):
        assert bob.post(path, reason=WHY).status_code == 403
    assert queue.pause() is None
    assert queue.job_of_anybody(ref).job.state == "queued"


def test_ending_a_job_names_it_and_asks_why(door: Enter) -> None:
    ref = job()
    alice = door("alice")
    assert f"End {ref}" in text(alice.get(f"/queue/jobs/{ref}"))
    refused = alice.post(f"/queue/jobs/{ref}/stop")
    assert (refused.status_code, queue.job_of_anybody(ref).job.state) == (400, "queued")
    alice.post(f"/queue/jobs/{ref}/stop", reason=WHY)
    assert queue.job_of_anybody(ref).job.state == "cancelled"
    again = text(alice.browser.post(f"/queue/jobs/{ref}/stop", {"reason": WHY}, follow=True))
    assert "job_finished" in again
    assert alice.post("/queue/jobs/job_none/stop", reason=WHY).status_code == 404
    (row,) = records(action="job.cancelled")
    assert (row.actor, row.target, WHY in row.detail) == ("alice", ref, True)


def test_ending_a_batch_names_how_much_and_asks_why(door: Enter) -> None:
    ref = batch()
    alice = door("alice")
    page = text(alice.get(f"/queue/batches/{ref}"))
    assert "2 lines of ward-7 get no answer" in page
    assert alice.post(f"/queue/batches/{ref}/stop").status_code == 400
    alice.post(f"/queue/batches/{ref}/stop", reason=WHY)
    assert queue.batch_of_anybody(ref).state == "cancelling"
    assert f"End {ref}" not in text(alice.get(f"/queue/batches/{ref}"))
    assert [row.target for row in records(action="batch.cancelled")] == [ref]
