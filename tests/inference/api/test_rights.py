"""Rights at use, through the real process: key ∩ user, what is refused is on record, what is withdrawn ends."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from appliance.alerts import selectors as alerts
from appliance.alerts import services as alerting
from appliance.keyring import services as keyring
from inference.clients import rules
from inference.clients import services as clients
from inference.clients.rules import Bounds, Narrowing, Scope
from inference.clients.tasks import watch_attempts
from inference.policy.catalog import PURPOSES, TASKS
from inference.queue.models import Job
from inference.queue.rules import result_name
from tests.simulators import lan as lans
from tests.simulators.identity import Provider
from tests.simulators.lan import Lan, Reply, chat_body
from tests.waiting import until

CHAT = "/v1/chat/completions"


@pytest.fixture
def idp(lan: Lan) -> Provider:
    """An issuer that vouches for the users of this test's client, known to the process."""
    made = Provider(name=f"idp-{lan.client}", iss=f"https://{lan.client}.example").register(client=lan.client)
    until(lambda: asked(lan, made.sign()).status == 200, 5, "the API knows the issuer")
    return made


def asked(lan: Lan, token: str, *, key: str | None = None) -> Reply:
    return lan.ask("GET", "/v1/models", key=key, headers={"X-End-User-Assertion": token})


def chat(lan: Lan, token: str, **changes: Any) -> Reply:
    return lan.ask("POST", CHAT, chat_body(**changes), headers={"X-End-User-Assertion": token})


def records(lan: Lan, where: str = "true") -> list[dict[str, Any]]:
    return lans.audit_rows(f"client = '{lan.client}' AND {where}")


def set_grants(lan: Lan, **changes: Any) -> None:
    grants: dict[str, Any] = {
        "tasks": list(TASKS), "purposes": list(PURPOSES), "lane": "interactive", "phi": True, "features": [],
        "tools": [], "assertion_required": False,
    }  # fmt: skip
    clients.set_grants(actor="erin", client=lan.client, **{**grants, **changes})


def test_with_one_key_the_user_without_the_right_to_phi_is_refused_and_the_other_is_not(
    lan: Lan, idp: Provider
) -> None:
    """C4: the model sees what the calling user is allowed to see, not what the service account can see."""
    allowed, refused = chat(lan, idp.sign("dr.lee", isoward_phi=True)), chat(lan, idp.sign("clerk.kim"))
    assert allowed.status == 200
    assert (refused.status, refused.code) == (403, "phi_not_granted")
    (row,) = until(lambda: records(lan, "action = 'phi.unauthorized_attempt'"), 5, "the attempt is on record")
    assert (row["kind"], row["client"], row["key_id"]) == ("refusal", lan.client, lan.key[:12])
    assert (row["end_user"], row["request_id"]) == ("clerk.kim", refused.headers["x-request-id"])
    detail = json.loads(row["detail"])
    assert (detail["event"], detail["user_proved"]) == ("unauthorized_phi_access_attempt", True)
    assert len(lan.engine.seen) == 1


def test_the_right_to_a_task_does_not_carry_the_right_to_phi(lan: Lan, idp: Provider) -> None:
    token = idp.sign("clerk.kim", isoward_tasks=["progress_note"])
    metadata = {"task": "progress_note", "purpose": "TREAT", "data_class": "synthetic"}
    assert chat(lan, token, metadata=metadata).status == 200
    assert chat(lan, token).code == "phi_not_granted"
    other = idp.sign("dr.lee", isoward_tasks=["visit_summary"], isoward_purposes=["HPAYMT"], isoward_phi=True)
    assert chat(lan, other).code == "purpose_not_granted"
    assert chat(lan, other, metadata={"task": "progress_note", "purpose": "HPAYMT"}).code == "task_not_granted"


def test_the_record_says_who_asked_and_whether_it_was_proved(lan: Lan, idp: Provider) -> None:
    proved, said = chat(lan, idp.sign("dr.lee", isoward_phi=True)), lan.chat(user="dr.kim")
    for reply, user, is_proved in ((proved, "dr.lee", True), (said, "dr.kim", False)):
        (row,) = lans.audit_rows(f"kind = 'intent' AND request_id = '{reply.headers['x-request-id']}'")
        assert (row["end_user"], json.loads(row["detail"])["user_proved"]) == (user, is_proved)


def test_the_body_names_the_proved_user_or_nobody(lan: Lan, idp: Provider) -> None:
    token = idp.sign("dr.lee", isoward_phi=True)
    assert chat(lan, token, user="dr.lee").status == 200
    other = chat(lan, token, user="dr.kim")
    assert (other.status, other.code) == (400, "end_user_mismatch")
    job = lan.ask("POST", "/v1/jobs", {"request": chat_body(user="dr.kim")}, headers={"X-End-User-Assertion": token})
    assert job.code == "end_user_mismatch"


def test_a_client_that_must_name_its_user_is_refused_until_it_does(lan: Lan, idp: Provider) -> None:
    set_grants(lan, assertion_required=True)
    until(lambda: lan.chat().status == 401, 5, "the API knows")
    refused = lan.chat()
    assert (refused.code, refused.headers["www-authenticate"]) == ("end_user_required", "Bearer")
    assert chat(lan, idp.sign(aud="other")).code == "invalid_end_user_assertion"
    assert chat(lan, idp.sign(isoward_phi=True)).status == 200
    assert [row["client"] for row in records(lan, "outcome = 'end_user_required'")]


def test_a_finished_job_is_read_by_who_may_ask_for_it_and_its_record_says_for_whom_it_was(
    lan: Lan, idp: Provider
) -> None:
    body = {"request": chat_body()}
    doctor, clerk = idp.sign("dr.lee", isoward_phi=True), idp.sign("clerk.kim")
    assert lan.ask("POST", "/v1/jobs", body, headers={"X-End-User-Assertion": clerk}).code == "phi_not_granted"
    ref = lan.ask("POST", "/v1/jobs", body, headers={"X-End-User-Assertion": doctor}).json["id"]
    (row,) = records(lan, f"action = 'job.accepted' AND target = '{ref}'")
    detail = json.loads(row["detail"])
    assert (detail["user"], detail["user_proved"]) == ("dr.lee", True)
    finish(ref)

    def read(token: str) -> Reply:
        return lan.ask("GET", f"/v1/jobs/{ref}", headers={"X-End-User-Assertion": token} if token else {})

    assert read(doctor).json["result"]["choices"][0]["message"]["content"] == "Well."
    assert read(clerk).code == "not_your_work"
    assert read("").code == "not_your_work"
    assert read(idp.sign("dr.lee")).code == "phi_not_granted"
    response = f"/v1/responses/{ref.replace('job_', 'resp_')}"
    assert lan.ask("GET", response, headers={"X-End-User-Assertion": clerk}).code == "not_your_work"
    assert read(idp.sign("dr.lee", isoward_phi=True, isoward_tasks=["visit_summary"])).code == "task_not_granted"
    assert read(idp.sign("dr.lee", isoward_phi=True, isoward_purposes=["HPAYMT"])).code == "purpose_not_granted"
    readers = [row["end_user"] for row in records(lan, f"action = 'job.read' AND target = '{ref}'")]
    assert readers == ["dr.lee"]


def finish(ref: str) -> None:
    """As a worker would, without one."""
    result = {
        "text": "Well.", "finish": "stop", "input_tokens": 1, "output_tokens": 1, "model": lans.MODEL,
        "receipt": {"request_id": f"{ref}.1"},
    }  # fmt: skip
    Job.objects.filter(ref=ref).update(
        state=Job.State.SUCCEEDED,
        finished=timezone.now(),
        payload=None,
        result=keyring.seal(json.dumps(result).encode(), aad=result_name(ref)),
    )


def test_neither_a_key_nor_an_assertion_is_in_a_log(lan: Lan, idp: Provider) -> None:
    tokens = [idp.sign(isoward_phi=True), idp.sign(aud="other"), "guessed.assertion.Quetzalcoatl"]
    for token in tokens:
        chat(lan, token)
    lan.ask("GET", f"/v1/models?key={lan.key}", key=f"{lan.key}x")
    written = lan.log.read_text() + json.dumps(lans.audit_rows(), default=str)
    for secret in (*tokens, *(token.rsplit(".", 1)[-1] for token in tokens), lan.key, lan.key[13:]):
        assert secret not in written


@pytest.mark.parametrize(
    "withdraw",
    [
        lambda lan, idp: clients.set_issuer_state(actor="erin", issuer=idp.name, active=False),
        lambda lan, idp: clients.retire_issuer_key(actor="erin", issuer=idp.name, kid=idp.kid),
        lambda lan, idp: set_grants(lan, phi=False),
        lambda lan, idp: set_grants(lan, tasks=["data_analyst"]),
        lambda lan, idp: clients.set_state(actor="erin", client=lan.client, active=False),
        lambda lan, idp: clients.revoke_key(actor="erin", prefix=lan.key[:12]),
        lambda lan, idp: clients.rotate_key(actor="erin", prefix=lan.key[:12], overlap=timedelta(0)),
    ],
    ids=["issuer suspended", "its key retired", "phi", "task", "client suspended", "key revoked", "key rotated away"],
)
@pytest.mark.parametrize("behave", ["hang_in_the_middle", "hang"])
def test_what_is_withdrawn_cuts_a_running_answer_though_the_engine_is_silent(
    lan: Lan, idp: Provider, behave: str, withdraw: Callable[[Lan, Provider], Any]
) -> None:
    """T17: a running stream ends within ten seconds. An engine that says nothing gives no piece to ask at."""
    lan.engine.behave = behave
    with stream(lan, idp.sign(isoward_phi=True)) as wire:
        until(lambda: lan.engine.now, 5, "the engine has the request")
        began = time.monotonic()
        withdraw(lan, idp)
        text = rest(wire)
        assert time.monotonic() - began < 10  # the promise itself
    assert b"rights_withdrawn" in text
    assert b"[DONE]" not in text
    assert (b"HTTP/1.1 403" in text) == (behave == "hang")
    until(lambda: lan.engine.seen[0].cut, 5, "the engine was told to stop")
    until(lambda: records(lan, "kind = 'outcome' AND outcome = 'rights_withdrawn'"), 5, "the outcome is on record")


def test_a_running_answer_ends_with_its_keys_life(lan: Lan) -> None:
    key = clients.issue_key(actor="erin", client=lan.client, life=timedelta(seconds=4))
    until(lambda: lan.ask("GET", "/v1/models", key=key.plaintext).status == 200, 3, "the API knows the key")
    lan.engine.behave = "hang_in_the_middle"
    with stream(lan, "", key=key.plaintext) as wire:
        assert b"rights_withdrawn" in rest(wire)
    assert lan.ask("GET", "/v1/models", key=key.plaintext).code == "invalid_api_key"


class stream:  # noqa: N801 - reads as a context
    """A streamed request on a connection of its own, and what comes back as bytes."""

    def __init__(self, lan: Lan, token: str, *, key: str = "") -> None:
        body = json.dumps(chat_body(stream=True))
        vouched = f"X-End-User-Assertion: {token}\r\n" if token else ""
        self.wire = socket.create_connection(("127.0.0.1", lan.port), timeout=30)
        self.wire.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key or lan.key}\r\n{vouched}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def __enter__(self) -> socket.socket:
        return self.wire

    def __exit__(self, *_: object) -> None:
        self.wire.close()


def rest(wire: socket.socket, *, until: bytes = b"rights_withdrawn") -> bytes:
    """All that comes until the refusal has come or the other side is silent for too long."""
    text = b""
    while until not in text and (part := wire.recv(65_536)):
        text += part
    return text


def test_five_refused_attempts_in_ten_minutes_are_an_alert_until_somebody_took_it_on(lan: Lan, idp: Provider) -> None:
    key = f"clients.phi_attempts.{lan.client}"
    for number in range(4):
        assert chat(lan, idp.sign(f"user-{number}")).status == 403
    until(lambda: len(records(lan, "action = 'phi.unauthorized_attempt'")) == 4, 5, "four are on record")
    watch_attempts()
    assert key not in alerts.standing_keys()
    chat(lan, idp.sign("user-4"))
    until(lambda: len(records(lan, "action = 'phi.unauthorized_attempt'")) == 5, 5, "five are on record")
    watch_attempts()
    watch_attempts()
    (alert,) = [item for item in alerts.standing() if item.key == key]
    later = timezone.now() + rules.ATTEMPTS_WITHIN + timedelta(minutes=1)
    clients.watch_attempts(actor="test", now=later)
    assert key in alerts.standing_keys()
    alerting.acknowledge(actor="bob", alert_id=alert.id)
    watch_attempts()
    assert key in alerts.standing_keys()
    clients.watch_attempts(actor="test", now=later)
    assert key not in alerts.standing_keys()


def test_a_flood_of_attempts_is_counted_exactly_and_opens_the_alert(lan: Lan) -> None:
    set_grants(lan, phi=False)
    until(lambda: lan.chat().status == 403, 5, "the API knows")
    for number in range(60):
        assert lan.chat(user=f"invented-{number}").code == "phi_not_granted"

    def counted() -> int:
        rows = records(lan, "action = 'phi.unauthorized_attempt' AND end_user <> ''")
        return sum(json.loads(row["detail"])["count"] for row in rows)

    until(lambda: counted() == 60, 5, "each is counted, with the user it was asked for")
    assert lan.client in clients.watch_attempts(actor="test", now=timezone.now())


@pytest.fixture
def bound(lan: Lan) -> str:
    """A key that may be used from one network, which is not the test's."""
    scope = Scope(Narrowing(tasks=frozenset({"progress_note"})), Bounds(networks=rules.networks(["10.1.2.0/24"])))
    key = clients.issue_key(actor="erin", client=lan.client, scope=scope).plaintext
    until(lambda: lan.ask("GET", "/v1/models", key=key).status == 403, 5, "the API knows the key")
    return key


def test_a_key_is_refused_from_another_network_whatever_the_caller_says_of_itself(lan: Lan, bound: str) -> None:
    reply = lan.ask("GET", "/v1/models", key=bound, headers={"X-Isoward-Source": "10.1.2.3"})
    assert (reply.status, reply.code) == (403, "source_not_allowed")
    assert records(lan, "outcome = 'source_not_allowed'")[0]["key_id"] == bound[:12]


def test_behind_nginx_the_source_is_what_nginx_says(lan: Lan, bound: str) -> None:
    assert over_unix(lan, bound, source="10.1.2.3") == 200
    assert over_unix(lan, bound, source="10.1.3.3") == 403
    assert over_unix(lan, bound, source="") == 403


def over_unix(lan: Lan, key: str, *, source: str) -> int:
    """As nginx asks: over the API's unix socket, with the header it sets."""
    wire = http.client.HTTPConnection("localhost", timeout=10)
    wire.sock = socket.socket(socket.AF_UNIX)
    wire.sock.connect(str(lan.log.with_suffix(".sock")))
    try:
        headers = {"Authorization": f"Bearer {key}", **({"X-Isoward-Source": source} if source else {})}
        wire.request("GET", "/v1/models", headers=headers)
        return wire.getresponse().status
    finally:
        wire.close()


def test_a_keys_scope_is_asked_at_each_use(lan: Lan) -> None:
    only = Narrowing(
        tasks=frozenset({"progress_note"}), purposes=frozenset({"TREAT"}), phi=False, models=frozenset({"other"})
    )
    key = clients.issue_key(actor="erin", client=lan.client, scope=Scope(only)).plaintext
    until(lambda: lan.ask("GET", "/v1/models", key=key).status == 200, 5, "the API knows the key")

    def refused(**metadata: str) -> str:
        given = {"task": "progress_note", "purpose": "TREAT", "data_class": "synthetic", **metadata}
        return lan.ask("POST", CHAT, chat_body(metadata=given), key=key).code

    assert refused() == "model_not_granted"
    assert lan.ask("GET", "/v1/models", key=key).json["data"] == []
    assert lan.ask("GET", "/v1/models/default", key=key).code == "model_not_granted"
    widened = Scope(Narrowing(tasks=only.tasks, purposes=only.purposes, phi=False))
    key = clients.issue_key(actor="erin", client=lan.client, scope=widened).plaintext
    until(lambda: lan.ask("GET", "/v1/models", key=key).status == 200, 5, "the API knows the key")
    assert refused(task="visit_summary") == "task_not_granted"
    assert refused(purpose="HMARKT") == "purpose_not_granted"
    assert refused(data_class="phi") == "phi_not_granted"
