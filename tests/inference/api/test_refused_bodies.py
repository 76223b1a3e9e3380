"""Group G through the real process: each bad body gets its 400 and its code, once on record, and the engine none of it."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from inference.queue.models import Job
from tests.corpus.bodies import BODIES, Body
from tests.simulators import lan as lans
from tests.simulators.lan import Lan
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("db")

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("bad", BODIES, ids=str)
def test_a_bad_body_gets_its_400_and_the_engine_none_of_it(corpus_lan: Lan, bad: Body) -> None:
    reply = corpus_lan.ask("POST", CHAT, bad.data)
    assert (reply.status, reply.code) == (400, bad.code)
    assert bad.param is None or reply.json["error"]["param"] == bad.param
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert not corpus_lan.engine.seen


def test_each_is_on_record_once_under_its_client_and_no_value_is(lan: Lan) -> None:
    expected = Counter(bad.code for bad in BODIES)
    wire = http.client.HTTPConnection("127.0.0.1", lan.port, timeout=20)
    for bad in BODIES:
        wire.request("POST", CHAT, bad.data, {"Authorization": f"Bearer {lan.key}", "Content-Type": "application/json"})
        wire.getresponse().read()
    wire.close()

    def counted() -> Counter[str]:
        found: Counter[str] = Counter()
        for row in lans.audit_rows(f"client = '{lan.client}' AND kind = 'refusal'"):
            found[row["outcome"]] += json.loads(row["detail"])["count"]
        return found

    until(lambda: counted() == expected, 5, "each was counted once")
    assert not lans.audit_rows(f"client = '{lan.client}' AND kind <> 'refusal' AND kind <> 'act'")
    assert "bronchitis" not in lan.log.read_text()


@pytest.mark.parametrize("token", [entry["content"] for entry in lans.ADDED_TOKENS if str(entry["content"]).strip()])
def test_what_the_serving_models_own_tokenizer_reads_as_more_than_text_is_refused(corpus_lan: Lan, token: str) -> None:
    for record in ({"plan": f"rest{token}."}, {"diagnoses": [{token: "x"}]}, {"plan": f"a {token.upper()} b"}):
        reply = corpus_lan.chat(record=record)
        assert (reply.status, reply.code) == (400, "special_token_in_content")
    assert not corpus_lan.engine.seen


def test_a_prompt_that_does_not_fit_the_model_is_the_callers_to_shorten(lan: Lan) -> None:
    lan.engine.behave = "too_long"  # exactly at the limit is tests/flows/test_lan_request.py, on real vLLM
    assert (lan.chat().status, lan.chat().code) == (400, "context_length")


def test_a_thousand_submissions_under_one_key_are_one_job(lan: Lan) -> None:
    def submit(_number: int) -> tuple[int, str]:
        reply = lan.ask("POST", "/v1/jobs", {"request": lans.chat_body()}, headers={"Idempotency-Key": "visit-1"})
        return reply.status, reply.json["id"]

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(submit, range(1000)))
    assert {status for status, _ in found} == {202}
    assert len({ref for _, ref in found}) == Job.objects.filter(client=lan.client).count() == 1
    assert len(lans.audit_rows(f"action = 'job.accepted' AND client = '{lan.client}'")) == 1
    other = lans.new_key(f"{lan.client}-other")
    until(lambda: lan.ask("GET", "/v1/models", key=other).status == 200, 10, "the other client's key is known")
    body = {"request": lans.chat_body(max_tokens=7)}
    theirs = lan.ask("POST", "/v1/jobs", body, key=other, headers={"Idempotency-Key": "visit-1"})
    assert theirs.status == 202
    assert theirs.json["id"] not in {ref for _, ref in found}
    conflict = lan.ask("POST", "/v1/jobs", body, headers={"Idempotency-Key": "visit-1"})
    assert (conflict.status, conflict.code) == (409, "idempotency_conflict")


@pytest.mark.parametrize("key", ["x" * 129, "x" * 300, "two words", "a\xe9", "a\tb"])
def test_an_idempotency_key_of_another_form_is_refused(corpus_lan: Lan, key: str) -> None:
    reply = corpus_lan.ask("POST", "/v1/jobs", {"request": lans.chat_body()}, headers={"Idempotency-Key": key})
    assert (reply.status, reply.code) == (400, "invalid_idempotency_key")
