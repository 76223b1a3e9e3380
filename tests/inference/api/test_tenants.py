"""Two clients and every route with a key: what one made does not exist for the other, and no answer tells that it does.

One row for each keyed route; a route that has none fails the first test. A row whose answer must be the same for what
is another's and for what is nobody's asks for both and compares the whole answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from openai import OpenAI

from inference.api import expanding, routes
from inference.queue.models import Batch, File, Job
from inference.queue.tasks import Bench
from tests.simulators import lan as lans
from tests.simulators.lan import MODEL, RECORD, Lan, chat_body
from tests.waiting import until

NOBODYS = "0" * 24
CONVERSATION = {"task": "conversation", "purpose": "TREAT"}


@dataclass(frozen=True)
class Theirs:
    """What client A has, by id."""

    job: str
    response: str
    line: str
    batch: str
    file: str
    output: str
    request: str

    def values(self) -> dict[str, str]:
        return dict(vars(self))


@dataclass(frozen=True)
class Row:
    """One request of client B's about what is A's: `{job}` and so on are A's ids."""

    method: str
    path: str
    body: Any = None
    status: int = 404


# One id is A's. The answer must be a 404, and the same as for an id that nobody has.
BY_ID: dict[tuple[str, str], list[Row]] = {
    ("GET", "/v1/responses/{response}"): [Row("GET", "/v1/responses/{response}")],
    ("DELETE", "/v1/responses/{response}"): [Row("DELETE", "/v1/responses/{response}")],
    ("POST", "/v1/responses/{response}/cancel"): [Row("POST", "/v1/responses/{response}/cancel")],
    ("GET", "/v1/explain/{request}"): [Row("GET", "/v1/explain/{request}"), Row("GET", "/v1/explain/{job}.1")],
    ("POST", "/v1/decisions"): [Row("POST", "/v1/decisions", {"request_id": "{request}", "decision": "accepted"})],
    ("GET", "/v1/jobs/{job}"): [Row("GET", "/v1/jobs/{job}"), Row("GET", "/v1/jobs/{line}")],
    ("DELETE", "/v1/jobs/{job}"): [Row("DELETE", "/v1/jobs/{job}"), Row("DELETE", "/v1/jobs/{line}")],
    ("POST", "/v1/jobs/{job}/cancel"): [Row("POST", "/v1/jobs/{job}/cancel"), Row("POST", "/v1/jobs/{line}/cancel")],
    ("GET", "/v1/files/{file}"): [Row("GET", "/v1/files/{file}"), Row("GET", "/v1/files/{output}")],
    ("DELETE", "/v1/files/{file}"): [Row("DELETE", "/v1/files/{file}"), Row("DELETE", "/v1/files/{output}")],
    ("GET", "/v1/files/{file}/content"): [
        Row("GET", "/v1/files/{file}/content"), Row("GET", "/v1/files/{output}/content"),
    ],
    ("POST", "/v1/batches"): [
        Row(
            "POST",
            "/v1/batches",
            {"input_file_id": "{file}", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
        )
    ],
    ("GET", "/v1/batches/{batch}"): [Row("GET", "/v1/batches/{batch}")],
    ("POST", "/v1/batches/{batch}/cancel"): [Row("POST", "/v1/batches/{batch}/cancel")],
    # Where a list begins: the same.
    ("GET", "/v1/jobs"): [Row("GET", "/v1/jobs?after={job}"), Row("GET", "/v1/jobs?after={line}")],
    ("GET", "/v1/files"): [Row("GET", "/v1/files?after={file}")],
    ("GET", "/v1/batches"): [Row("GET", "/v1/batches?after={batch}")],
}  # fmt: skip

# Lists are empty for B.
LISTS: dict[tuple[str, str], list[str]] = {
    ("GET", "/v1/jobs"): [
        "/v1/jobs", "/v1/jobs?state=succeeded", "/v1/jobs?state=queued", "/v1/jobs?batch={batch}",
        "/v1/jobs?batch={batch}&state=succeeded",
    ],
    ("GET", "/v1/files"): ["/v1/files", "/v1/files?purpose=batch"],
    ("GET", "/v1/batches"): ["/v1/batches"],
    ("GET", "/v1/decisions"): ["/v1/decisions?state=unreviewed", "/v1/decisions?state=unreviewed&after={cursor}"],
}  # fmt: skip

# They name nothing of a client's: what they take is in the request, or is the same for everybody.
NO_TENANT: set[tuple[str, str]] = {
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("GET", "/v1/tasks"),
    ("GET", "/v1/tasks/{task}"),
    ("POST", "/v1/tasks/{task}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/files"),
}

# They take an Idempotency-Key: the same key of another client is another piece of work.
KEYED_WORK: dict[tuple[str, str], Any] = {
    ("POST", "/v1/jobs"): {"request": chat_body()},
    ("POST", "/v1/responses"): {"model": MODEL, "input": "Cough?", "metadata": CONVERSATION, "background": True},
}
IDEMPOTENT = {"Idempotency-Key": "visit-1"}


def test_every_route_with_a_key_has_its_row() -> None:
    table = {*BY_ID, *LISTS, *NO_TENANT, *KEYED_WORK}
    matched = {
        route: [(m, p) for m, p, _ in routes.KEYED if m == route[0] and re.fullmatch(p, filled(route[1]))]
        for route in table
    }
    assert all(len(found) == 1 for found in matched.values()), "a row that is no route, or two"
    assert {found[0] for found in matched.values()} == {(m, p) for m, p, _ in routes.KEYED}


def filled(path: str) -> str:
    """A path of the table with something that may stand there."""
    ids = {"model": "default", "task": "progress_note", "request": "req_x"}
    return path.format(
        **ids, job=f"job_{NOBODYS}", response=f"resp_{NOBODYS}", file=f"file-{NOBODYS}", batch=f"batch_{NOBODYS}"
    )


def work(ref: str, *, batch: bool = False) -> None:
    bench = Bench.here()
    if batch:
        expanding.expand(ref)
    bench.runner.run(bench.turn(ref, 0) if batch else bench.attempt(ref))
    bench.close()


@pytest.fixture
def theirs(lan: Lan, official: OpenAI, redis_server: object) -> Theirs:
    """Client A's, each ended, so that there is a result to steal."""
    job = lan.ask("POST", "/v1/jobs", KEYED_WORK["POST", "/v1/jobs"], headers=IDEMPOTENT).json["id"]
    work(job)
    response = lan.ask(
        "POST", "/v1/responses", KEYED_WORK["POST", "/v1/responses"], headers={"Idempotency-Key": "visit-2"}
    ).json["id"]
    work(f"job_{response.removeprefix('resp_')}")
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": chat_body()}
    file = official.files.create(file=("a.jsonl", json.dumps(line).encode() + b"\n"), purpose="batch").id
    batch = official.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h").id
    work(batch, batch=True)
    output = official.batches.retrieve(batch).output_file_id
    assert output is not None
    request = lan.ask("POST", "/v1/tasks/progress_note", {"record": RECORD, "purpose": "TREAT"}).json["id"]
    return Theirs(job, response, Job.objects.get(batch__ref=batch).ref, batch, file, output, request)


@pytest.fixture
def neighbour(lan: Lan) -> Lan:
    found = lans.Lan(lan.port, lan.log, lan.engine, f"{lan.client}-nb", lans.new_key(f"{lan.client}-nb"))
    until(lambda: found.ask("GET", "/v1/models").status == 200, 10, "the neighbour's key is known")
    return found


@pytest.fixture
def untouched(theirs: Theirs) -> Iterator[None]:
    """Whatever B asked, A has what it had."""
    before = [list(model.objects.order_by("id").values()) for model in (Job, Batch, File)]
    yield
    assert [list(model.objects.order_by("id").values()) for model in (Job, Batch, File)] == before


def put(value: Any, ids: dict[str, str]) -> Any:
    """The same with A's ids in their places."""
    text = json.dumps(value)
    for name, found in ids.items():
        text = text.replace("{" + name + "}", found)
    return json.loads(text)


def said(reply: lans.Reply) -> Any:
    """The whole answer, but for what names this one exchange."""
    body = reply.json
    body["error"].pop("request_id")
    return reply.status, body, sorted(set(reply.headers) - {"date"})


@pytest.mark.usefixtures("untouched")
def test_what_is_anothers_answers_as_what_is_nobodys(lan: Lan, neighbour: Lan, theirs: Theirs) -> None:
    ids = theirs.values()
    none = {name: re.sub(r"[0-9a-f]{24}", NOBODYS, found) for name, found in ids.items()}
    for row in (row for rows in BY_ID.values() for row in rows):
        stolen, missing = (
            neighbour.ask(row.method, put(row.path, which), None if row.body is None else put(row.body, which))
            for which in (ids, none)
        )
        assert stolen.status == row.status, (row, stolen.body)
        assert said(stolen) == said(missing), row
    # And they are there: the same questions have an answer for who made them.
    for path in ("/v1/jobs/{job}", "/v1/jobs/{line}", "/v1/files/{output}/content", "/v1/batches/{batch}"):
        assert lan.ask("GET", put(path, ids)).status == 200, path
    for path in ("/v1/responses/{response}", "/v1/explain/{request}", "/v1/explain/{job}.1", "/v1/files/{file}"):
        assert lan.ask("GET", put(path, ids)).status == 200, path


@pytest.mark.usefixtures("untouched")
def test_lists_hold_nothing_of_anothers(lan: Lan, neighbour: Lan, theirs: Theirs) -> None:
    ids = theirs.values() | {"cursor": f"{10**17}-9-9"}  # from the end of time
    for path in (path for paths in LISTS.values() for path in paths):
        found = neighbour.ask("GET", put(path, ids))
        assert (found.status, found.json["data"], found.json["has_more"]) == (200, [], False), path
    for path in ("/v1/jobs", "/v1/jobs?batch={batch}", "/v1/files", "/v1/batches", "/v1/decisions?state=unreviewed"):
        assert lan.ask("GET", put(path, ids)).json["data"], path


@pytest.mark.parametrize("route", KEYED_WORK)
def test_one_idempotency_key_of_two_clients_is_two_pieces_of_work(
    lan: Lan, neighbour: Lan, route: tuple[str, str], redis_server: object
) -> None:
    replies = [each.ask(*route, KEYED_WORK[route], headers=IDEMPOTENT) for each in (lan, neighbour)]
    assert replies[0].json["id"] != replies[1].json["id"]
    assert replies[1].json.get("output", []) == []
    digits = [re.sub(r"^[a-z]+_", "job_", reply.json["id"]) for reply in replies]
    assert {Job.objects.get(ref=ref).client for ref in digits} == {lan.client, neighbour.client}
