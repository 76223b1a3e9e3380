"""One client, two users and a narrower key: nobody reads, decides, stops or deletes what is not theirs, at any door."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from inference.clients import services as clients
from inference.clients.rules import Narrowing, Scope
from tests.inference.api.test_rights import finish, records
from tests.simulators.identity import Provider
from tests.simulators.lan import RECORD, Lan, Reply, chat_body
from tests.waiting import until


@dataclass
class Ward:
    """A client whose work was all handed in for dr.lee."""

    lan: Lan
    idp: Provider
    job: str = ""
    done: str = ""
    file: str = ""
    batch: str = ""
    draft: str = ""

    def ask(self, user: str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        token = self.idp.sign(user, isoward_phi=True) if user else ""
        return self.lan.ask(method, path, body, headers={"X-End-User-Assertion": token, **headers})

    def upload(self, user: str) -> str:
        body = (
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="Zarathustra.jsonl"\r\n\r\n{}\n\r\n--b--\r\n'
        )
        form = {"Content-Type": "multipart/form-data; boundary=b"}
        return str(self.ask(user, "POST", "/v1/files", body, **form).json["id"])

    def act(self) -> None:
        """Everything that its user may do to what is there."""
        other = self.upload("dr.lee")
        for method, path in (
            ("POST", f"/v1/jobs/{self.job}/cancel"),
            ("DELETE", f"/v1/jobs/{self.done}"),
            ("POST", f"/v1/batches/{self.batch}/cancel"),
            ("DELETE", f"/v1/files/{other}"),
        ):
            assert self.ask("dr.lee", method, path).status == 200, path

    def decide(self, user: str) -> Reply:
        return self.ask(user, "POST", "/v1/decisions", {"request_id": self.draft, "decision": "accepted"})


@pytest.fixture
def ward(lan: Lan) -> Ward:
    idp = Provider(name=f"idp-{lan.client}", iss=f"https://{lan.client}.example").register(client=lan.client)
    made = Ward(lan, idp)
    until(lambda: made.ask("dr.lee", "GET", "/v1/models").status == 200, 5, "the API knows the issuer")
    made.job, made.done = (
        made.ask("dr.lee", "POST", "/v1/jobs", {"request": chat_body()}).json["id"] for _ in range(2)
    )
    finish(made.done)
    made.file = made.upload("dr.lee")
    batch = {"input_file_id": made.file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    made.batch = made.ask("dr.lee", "POST", "/v1/batches", batch).json["id"]
    made.draft = made.ask("dr.lee", "POST", "/v1/tasks/progress_note", {"record": RECORD, "purpose": "TREAT"}).json[
        "id"
    ]
    return made


DOORS: list[tuple[str, Callable[[Ward], str], Callable[[Ward], Any]]] = [
    ("GET", lambda w: f"/v1/jobs/{w.done}", lambda _: None),
    ("GET", lambda w: f"/v1/responses/{w.done.replace('job_', 'resp_')}", lambda _: None),
    ("POST", lambda w: f"/v1/responses/{w.job.replace('job_', 'resp_')}/cancel", lambda _: None),
    ("DELETE", lambda w: f"/v1/responses/{w.done.replace('job_', 'resp_')}", lambda _: None),
    ("POST", lambda w: f"/v1/jobs/{w.job}/cancel", lambda _: None),
    ("DELETE", lambda w: f"/v1/jobs/{w.done}", lambda _: None),
    ("GET", lambda w: f"/v1/files/{w.file}", lambda _: None),
    ("GET", lambda w: f"/v1/files/{w.file}/content", lambda _: None),
    ("DELETE", lambda w: f"/v1/files/{w.file}", lambda _: None),
    ("GET", lambda w: f"/v1/batches/{w.batch}", lambda _: None),
    ("GET", lambda w: f"/v1/files/{w.batch.replace('batch_', 'file-')}-output/content", lambda _: None),
    ("DELETE", lambda w: f"/v1/files/{w.batch.replace('batch_', 'file-')}-output", lambda _: None),
    ("POST", lambda w: f"/v1/batches/{w.batch}/cancel", lambda _: None),
    (
        "POST",
        lambda _: "/v1/batches",
        lambda w: {"input_file_id": w.file, "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    ),
    ("GET", lambda w: f"/v1/explain/{w.draft}", lambda _: None),
    ("POST", lambda _: "/v1/decisions", lambda w: {"request_id": w.draft, "decision": "rejected"}),
]


def test_no_door_opens_for_another_user_or_for_nobody(ward: Ward) -> None:
    for user in ("dr.kim", ""):
        answers = [(m, path(ward), ward.ask(user, m, path(ward), body(ward))) for m, path, body in DOORS]
        assert [(m, p, r.status, r.body) for m, p, r in answers if (r.status, r.code) != (403, "not_your_work")] == []
    # Nothing was changed by trying, and its own user gets through.
    assert ward.ask("dr.lee", "GET", f"/v1/jobs/{ward.job}").json["state"] == "queued"
    assert ward.ask("dr.lee", "GET", f"/v1/files/{ward.file}/content").status == 200
    assert ward.ask("dr.lee", "GET", f"/v1/jobs/{ward.done}").json["result"] is not None
    assert ward.ask("dr.lee", "GET", f"/v1/explain/{ward.draft}").json["end_user"] == "dr.lee"
    assert ward.decide("dr.lee").status == 200


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/files", "/v1/batches", "/v1/decisions?state=unreviewed"])
def test_no_list_shows_another_users_work(ward: Ward, path: str) -> None:
    assert ward.ask("dr.lee", "GET", path).json["data"] != []
    for user in ("dr.kim", ""):
        page = ward.ask(user, "GET", path).json
        assert (page["data"], page["has_more"]) == ([], False)


def test_a_list_is_whole_though_other_users_work_lies_between(ward: Ward) -> None:
    mine = []
    for _ in range(3):
        mine.append(ward.upload("dr.kim"))
        ward.upload("dr.lee")
    first = ward.ask("dr.kim", "GET", "/v1/files?limit=2").json
    second = ward.ask("dr.kim", "GET", f"/v1/files?limit=2&after={first['last_id']}").json
    found = [item["id"] for page in (first, second) for item in page["data"]]
    assert (found, first["has_more"], second["has_more"]) == (mine[::-1], True, False)


@pytest.mark.parametrize(
    ("only", "code"),
    [
        (Narrowing(phi=False), "phi_not_granted"),
        (Narrowing(tasks=frozenset({"visit_summary"})), "task_not_granted"),
        (Narrowing(purposes=frozenset({"HPAYMT"})), "purpose_not_granted"),
    ],
)
def test_a_key_with_less_than_the_work_was_accepted_with_reaches_none_of_it(
    lan: Lan, only: Narrowing, code: str
) -> None:
    ward = Ward(lan, Provider())
    ward.job, ward.done = (lan.ask("POST", "/v1/jobs", {"request": chat_body()}).json["id"] for _ in range(2))
    finish(ward.done)
    ward.file = ward.upload("")
    batch = {"input_file_id": ward.file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    ward.batch = lan.ask("POST", "/v1/batches", batch).json["id"]
    ward.draft = lan.ask("POST", "/v1/tasks/progress_note", {"record": RECORD, "purpose": "TREAT"}).json["id"]
    key = clients.issue_key(actor="erin", client=lan.client, scope=Scope(only)).plaintext
    until(lambda: lan.ask("GET", "/v1/models", key=key).status == 200, 5, "the API knows the key")
    answers = [(m, p(ward), lan.ask(m, p(ward), body(ward), key=key)) for m, p, body in DOORS]
    assert [(m, p, r.status, r.body) for m, p, r in answers if (r.status, r.code) != (403, code)] == []
    for path in ("/v1/jobs", "/v1/files", "/v1/batches", "/v1/decisions?state=unreviewed"):
        assert lan.ask("GET", path, key=key).json["data"] == []


def test_a_decision_is_its_users_own_and_says_that_it_was_proved(ward: Ward) -> None:
    body = {"request_id": ward.draft, "decision": "accepted", "user": "dr.kim"}
    other = ward.ask("dr.lee", "POST", "/v1/decisions", body)
    assert (other.status, other.code) == (400, "end_user_mismatch")
    assert ward.ask("dr.lee", "POST", "/v1/decisions", {**body, "user": "dr.lee"}).status == 200
    (row,) = records(ward.lan, "action = 'draft.decided'")
    assert (row["end_user"], json.loads(row["detail"])["user_proved"]) == ("dr.lee", True)


def test_every_act_on_durable_work_names_the_key_the_user_and_the_request(ward: Ward) -> None:
    ward.act()
    acts = (
        "file.stored",
        "file.deleted",
        "job.cancelled",
        "job.deleted",
        "batch.cancelled",
        "job.accepted",
        "batch.accepted",
    )
    for action in acts:
        rows = records(ward.lan, f"action = '{action}'")
        assert rows != [], action
        for row in rows:
            assert (action, row["key_id"], row["end_user"]) == (action, ward.lan.key[:12], "dr.lee")
            assert (action, row["request_id"][:4]) == (action, "req_")
            assert json.loads(row["detail"])["user_proved"] is True
