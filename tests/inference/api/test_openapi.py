"""The OpenAPI document says what the code does: route by route, code by code, and by schemathesis example by example.

`make fuzz-api N=2000 SEED=7` asks as many as it is told.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pytest_django.plugin import DjangoDbBlocker
from schemathesis import Case, GenerationMode, checks
from schemathesis.config import SchemathesisConfig
from schemathesis.config._checks import NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES

from inference.api import routes, schemas
from inference.api.errors import TABLE
from inference.api.openapi import document
from inference.api.openapi.operations import ANY, FORM, KEYED, OPERATIONS, PARAMETERS, Operation
from inference.queue.tasks import Bench
from tests.simulators import lan as lans
from tests.simulators.lan import Lan

EXAMPLES = int(os.environ.get("EXAMPLES") or "300")
SEED = int(os.environ.get("SEED") or "0") or random.randrange(1, 2**32)
WAV = b"RIFF\0\0\0\0WAVEfmt "
FORM_HEADER = {"Content-Type": "multipart/form-data; boundary=x"}
checks.load_all_checks()
CHECKS: Any = checks.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
    ]
)


def form(fields: dict[str, str], file: bytes) -> bytes:
    """A form with a file, as OpenAI's clients send one."""
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{fields[name]}\r\n' for name in fields]
    head = '--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return "".join((*parts, head)).encode() + file + b"\r\n--x--\r\n"


def pattern(path: str) -> str:
    """The document's path as the routes write it."""
    return re.sub(r"\{(\w+)\}", lambda match: f"({PARAMETERS[match[1]]})", path)


def test_every_route_is_in_the_document_and_every_operation_is_a_route() -> None:
    documented = {(found.method, pattern(found.path), found.key) for found in OPERATIONS}
    served = {(method, path, False) for method, path in routes.OPEN}
    assert documented == served | {(method, path, True) for method, path, _ in routes.KEYED}
    assert len(OPERATIONS) == len(documented)


def test_every_code_that_can_be_answered_is_named_where_it_can() -> None:
    named = ANY | KEYED | {code for found in OPERATIONS for code in found.codes}
    # Any path that is not one of ours, and any method that is not.
    assert named | {"not_found", "method_not_allowed"} == set(TABLE)


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    found = json.loads(json.dumps(document()))
    components = found["components"]["schemas"]
    for shape in components.values():
        Draft202012Validator.check_schema(shape)
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found)))
    assert used == set(components)
    ids = [operation["operationId"] for path in found["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.usefixtures("db")
def test_anybody_may_read_it_and_it_names_no_version_but_ours(corpus_lan: Lan) -> None:
    reply = corpus_lan.ask("GET", "/openapi.json", key="")
    assert reply.json == json.loads(json.dumps(document()))
    words = reply.body.decode().lower()
    assert not [name for name in ("vllm", "django", "gunicorn", "python", "postgres", "redis") if name in words]


def validator(component: str) -> Draft202012Validator:
    found = json.loads(json.dumps(document()))
    return Draft202012Validator({"$ref": f"#/components/schemas/{component}", "components": found["components"]})


def test_a_good_body_fits_its_schema_and_one_out_of_bounds_does_not() -> None:
    chat = validator("ChatRequest")
    chat.validate(lans.chat_body(max_tokens=schemas.MOST_TOKENS, stop=None, top_p=0.5))
    for changes in ({"max_tokens": schemas.MOST_TOKENS + 1}, {"top_p": 0}, {"chat_template": "x"}, {"n": 2}):
        assert not chat.is_valid(lans.chat_body(**changes))


@pytest.fixture(scope="module")
def described() -> Any:
    # A body that is too large is refused for that before anybody looks at what is in it.
    refused = {"negative_data_rejection": {"expected-statuses": [*NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES, "413"]}}
    config = SchemathesisConfig.from_dict({"checks": refused})
    return schemathesis.openapi.from_dict(json.loads(json.dumps(document())), config=config)


@pytest.fixture(scope="module")
def known(corpus_lan: Lan, django_db_blocker: DjangoDbBlocker) -> dict[str, str]:
    """What there is to be asked about: a finished job, and an answer with a decision."""
    corpus_lan.engine.behave = "answer"
    answered = corpus_lan.chat().json["receipt"]["request_id"]
    corpus_lan.ask("POST", "/v1/decisions", {"request_id": answered, "decision": "edited", "minutes_saved": 1.5})
    job = corpus_lan.ask("POST", "/v1/jobs", {"request": lans.chat_body()}).json["id"]
    with django_db_blocker.unblock():
        bench = Bench.here()
        bench.runner.run(bench.attempt(job))
        bench.close()
    labels = {"task": "conversation", "purpose": "TREAT"}
    kept = {"model": "default", "input": "Hello.", "metadata": labels, "background": True}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": lans.chat_body()}
    stored = corpus_lan.ask(
        "POST", "/v1/files", form({"purpose": "batch"}, json.dumps(line).encode()), headers=FORM_HEADER
    )
    asked = {"input_file_id": stored.json["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return {
        "model": "default",
        "task": "progress_note",
        "request_id": answered,
        "job": job,
        "response": corpus_lan.ask("POST", "/v1/responses", kept).json["id"],
        "file": stored.json["id"],
        "batch": corpus_lan.ask("POST", "/v1/batches", asked).json["id"],
    }


@pytest.mark.usefixtures("db")
def test_every_answer_has_the_shape_it_is_documented_with(corpus_lan: Lan, known: dict[str, str]) -> None:
    lan = corpus_lan
    heard = {"model": "default", "metadata[task]": "transcription", "metadata[purpose]": "TREAT"}
    talk, vector = ({"task": task, "purpose": "TREAT"} for task in ("conversation", "embedding"))
    for component, reply in {
        "Completion": lan.chat(),
        "TextCompletion": lan.ask("POST", "/v1/completions", {"model": "default", "prompt": "x", "metadata": talk}),
        "Embeddings": lan.ask("POST", "/v1/embeddings", {"model": "default", "input": "x", "metadata": vector}),
        "Transcription": lan.ask("POST", "/v1/audio/transcriptions", form(heard, WAV), headers=FORM_HEADER),
        "Draft": lan.ask("POST", "/v1/tasks/progress_note", {"record": lans.RECORD, "purpose": "TREAT"}),
        "Unreviewed": lan.ask("GET", "/v1/decisions?state=unreviewed"),
        "Decision": lan.ask(
            "POST", "/v1/decisions", {"request_id": lan.chat().json["receipt"]["request_id"], "decision": "accepted"}
        ),
        "Explanation": lan.ask("GET", f"/v1/explain/{known['request_id']}"),
        "Tasks": lan.ask("GET", "/v1/tasks"),
        "Accepted": lan.ask("POST", "/v1/jobs", {"request": lans.chat_body()}),
        "Job": lan.ask("GET", f"/v1/jobs/{known['job']}"),
        "Jobs": lan.ask("GET", "/v1/jobs"),
        "Response": lan.ask("GET", f"/v1/responses/{known['response']}"),
        "File": lan.ask("GET", f"/v1/files/{known['file']}"),
        "Files": lan.ask("GET", "/v1/files"),
        "Batch": lan.ask("GET", f"/v1/batches/{known['batch']}"),
        "Batches": lan.ask("GET", "/v1/batches"),
        "Status": lan.ask("GET", "/v1/status"),
        "Models": lan.ask("GET", "/v1/models"),
        "Error": lan.ask("GET", "/v1/nothing"),
    }.items():
        assert reply.status in {200, 202, 404}, component
        validator(component).validate(reply.json)


def good(case: Case[Any], known: dict[str, str]) -> Case[Any]:
    """The same case, with what no schema can say: ids that are there, a record, labels that are granted."""
    if case.path_parameters:
        case.path_parameters |= {name: known[name] for name in case.path_parameters}
    body: Any = case.body
    inner: Any = body.get("request") if isinstance(body, dict) and "request" in body else body
    if isinstance(inner, dict):
        if "messages" in inner:
            inner |= {key: lans.chat_body()[key] for key in ("model", "messages", "metadata")}
        if "record" in inner:
            inner |= {"record": lans.RECORD, "model": "default", "purpose": "TREAT"}
        if case.operation.path == "/v1/audio/transcriptions":
            inner |= {"file": WAV, "model": "default", "metadata[task]": "transcription", "metadata[purpose]": "TREAT"}
        for name, value in (("input_file_id", known["file"]), ("request_id", known["request_id"])):
            if name in inner:
                inner[name] = value
        if "prompt" in inner or "input" in inner:
            task = "embedding" if case.operation.path == "/v1/embeddings" else "conversation"
            inner |= {"model": "default", "metadata": {"task": task, "purpose": "TREAT"}}
    return case


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda found: f"{found.method} {found.path}")
def test_no_example_is_a_server_error_and_every_answer_is_one_that_is_documented(
    corpus_lan: Lan, described: Any, known: dict[str, str], operation: Operation
) -> None:
    print(f"EXAMPLES={EXAMPLES} SEED={SEED}: to see the same again")  # noqa: T201 - what a failed run is repeated with
    # An operation without anything to vary has one example; the others make up for it.
    weights = {one.title: 8 if one.takes else bool(one.query or "{" in one.path) for one in OPERATIONS}
    share = math.ceil(EXAMPLES * weights[operation.title] / sum(weights.values())) or 1
    under_test = described[operation.path][operation.method]
    session = requests.Session()
    asked: list[int] = []

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=share, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(
        case=under_test.as_strategy(GenerationMode.POSITIVE)
        | under_test.as_strategy(GenerationMode.POSITIVE).map(lambda case: good(case, known))
        | (under_test.as_strategy(GenerationMode.NEGATIVE) if operation.takes or operation.query else st.nothing())
    )
    def ask(case: Case[Any]) -> None:
        sent: Any = case.headers
        if re.fullmatch("[1-9][0-9]{0,5}", str((sent or {}).get("X-Deadline-Ms"))):
            sent["X-Deadline-Ms"] = "600000"  # a millisecond would be kept to, with a 503
        headers = {"Authorization": f"Bearer {corpus_lan.key}"} if operation.key else None
        response = case.call(f"http://127.0.0.1:{corpus_lan.port}", session=session, headers=headers, timeout=20)
        asked.append(response.status_code)
        # What a form holds has no type, so nothing in it is of a wrong one.
        case.validate_response(response, checks=CHECKS[:-1] if operation.media == FORM else CHECKS)

    ask()
    assert len(asked) >= min(share, 1)
    print(operation.method, operation.path, len(asked), {s: asked.count(s) for s in sorted(set(asked))})  # noqa: T201 - what was shown
