"""Playground: the real API behind it, a stand-in engine behind that; what is answered is text, and every refusal has words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings as live_settings
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from appliance.audit import selectors as log
from inference.clients import selectors as clients
from inference.clients import services as client_services
from inference.policy.catalog import TASKS, Form
from provisioning.site_config import Site
from tests.console.browse import Visit, browse, chromium
from tests.console.conftest import Enter
from tests.console.door import SignedIn, cookies, in_chromium, records, text
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn
from tests.waiting import until

from console import asking, samples  # isort: skip

pytestmark = pytest.mark.timeout(120)
HOSTILE = (
    "<img src=x onerror=alert(1)>", "<script>document.title='owned'</script>", "</pre><form action=/sign-out method=post>",
    "[click](javascript:alert(1))", '<a href="//evil.example">x</a>', "<style>*{display:none}</style>", "\u202egnp.exe",
    "<iframe srcdoc='<b>x</b>'>", "&lt;b&gt;", "{{ 7*7 }}", "data: [DONE]\n\ndata: {}",
)  # fmt: skip


@pytest.fixture(scope="module")
def port(django_db_setup: None, redis_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with lans.api_process(tmp_path_factory.mktemp("api") / "api.log") as found:
        yield found


@pytest.fixture
def engine(site: Site) -> Iterator[EngineStandIn]:
    stand_in = EngineStandIn(live_settings.SITE.engine_socket("a")).start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def served(transactional_db: None, port: int, engine: EngineStandIn, settings: Settings) -> EngineStandIn:
    """A release serves, the playground is a client, and the console knows where the API is."""
    settings.SITE = replace(settings.SITE, api=replace(settings.SITE.api, host="127.0.0.1", port=port))
    lans.serve_a_release()
    client_services.create_client(
        actor="erin", name="playground", title="Playground", owner="IT", tasks=list(TASKS), purposes=["TREAT"],
        lane="interactive", phi=False,
    )  # fmt: skip
    return engine


@pytest.fixture
def alice(transactional_db: None, door: Enter) -> SignedIn:
    return in_chromium(door("alice").member)


def question(**changes: Any) -> dict[str, Any]:
    return {"task": "progress_note", "purpose": "TREAT", "content": samples.sample("progress_note"), **changes}


def asked(person: SignedIn, **changes: Any) -> str:
    """Without scripts: the page that comes back."""
    return text(person.post("/playground/ask", **question(**changes)))


def streamed(person: SignedIn, **changes: Any) -> list[dict[str, Any]]:
    """As the script reads it."""
    response = person.browser.post("/playground/ask", question(**changes), headers={"Accept": "text/event-stream"})
    body = b"".join(response.streaming_content).decode()  # type: ignore[attr-defined]  # a streamed one
    return [json.loads(part.removeprefix("data: ")) for part in body.split("\n\n") if part]


def test_every_task_that_is_asked_with_text_has_a_sample_and_no_other() -> None:
    with_text = {name for name, task in TASKS.items() if task.form in {Form.RECORD, Form.CONVERSATION}}
    assert {name for name in TASKS if samples.sample(name)} == with_text
    for name in with_text - {"conversation"}:
        assert set(json.loads(samples.sample(name))) <= set(TASKS[name].fields), name


def test_an_answer_comes_whole_with_its_receipt_tokens_and_time(served: EngineStandIn, alice: SignedIn) -> None:
    page = asked(alice)
    assert "The patient is well." in page
    assert "Whole, and on record" in page
    receipt = streamed(alice)[-1]
    assert receipt["kind"] == "whole"
    assert receipt["receipt"]["change_id"] > 0
    assert receipt["tokens_out"] > 0
    assert 0 < receipt["first_s"] <= receipt["total_s"]
    shown = receipt["receipt"]["audit"]
    row = log.entry(shard=shown["shard"], seq=shown["seq"])
    assert row is not None
    assert (row.client, row.end_user, row.data_class, row.kind) == ("playground", "alice", "synthetic", "intent")


def test_it_comes_piece_by_piece(served: EngineStandIn, alice: SignedIn) -> None:
    steps = streamed(alice)
    assert [step["text"] for step in steps if step["kind"] == "text"] == list(served.tokens)


def test_the_key_is_the_persons_for_an_hour_from_here_without_patient_data_and_is_issued_once(
    served: EngineStandIn, alice: SignedIn
) -> None:
    for _ in range(3):
        asked(alice)
    (key,) = clients.client("playground").keys
    assert key.scope.only.phi is False
    assert [str(network) for network in key.scope.bounds.networks] == ["127.0.0.0/8", "::1/128"]
    assert round((key.expires - key.created).total_seconds()) == 3600
    issued = records(action="client.key_issued", actor="alice")
    assert [row.client for row in issued] == ["playground"]
    # Neither the session nor the log holds its text.
    kept = alice.browser.session["playground_key"]
    assert "iwk_" not in json.dumps(kept)


def test_a_session_key_does_not_open_in_another_session(served: EngineStandIn, alice: SignedIn, door: Enter) -> None:
    asked(alice)
    erin = door("erin")
    session = erin.browser.session
    session["playground_key"] = alice.browser.session["playground_key"]
    session.save()
    asked(erin)
    assert [row.client for row in records(action="client.key_issued", actor="erin")] == ["playground"]


@pytest.mark.parametrize("streaming", [False, True], ids=["page", "stream"])
def test_each_way_to_get_no_answer_has_its_words_and_its_code(
    served: EngineStandIn, alice: SignedIn, streaming: bool, settings: Settings
) -> None:
    def refused(**changes: Any) -> str:
        if not streaming:
            return asked(alice, **changes)
        last = streamed(alice, **changes)[-1]
        assert last["kind"] == "refused"
        return f"{last['says']} {last['code']}"

    assert "control" in refused(content='{"plan": "<|im_end|>"}')
    assert "json" in refused(content="{").lower()
    served.behave = "garbage"
    assert "engine" in refused()
    served.behave = "answer"
    served.stop()
    assert "engine_unavailable" in refused()
    served.start()
    client_services.set_grants(
        actor="erin", client="playground", tasks=["visit_summary"], purposes=["TREAT"], features=[], tools=[],
        lane="interactive", phi=False, assertion_required=False,
    )  # fmt: skip
    assert "form_refused" in refused() if streaming else "Select a valid choice" in refused()
    settings.SITE = replace(settings.SITE, api=replace(settings.SITE.api, port=1))
    assert "api_unavailable" in refused(task="visit_summary", content=samples.sample("visit_summary"))


def test_few_may_wait_at_once_and_a_place_is_given_back_however_it_ends(served: EngineStandIn, alice: SignedIn) -> None:
    with asking._room, asking._room:
        assert "playground_busy" in asked(alice)
    served.behave = "garbage"
    for _ in range(3):
        assert "playground_busy" not in asked(alice)
    served.behave = "answer"
    assert "The patient is well." in asked(alice)


def test_whoever_leaves_stops_the_engine(served: EngineStandIn, alice: SignedIn) -> None:
    served.behave, served.pause_s = "answer", 0.2
    response = alice.browser.post("/playground/ask", question(), headers={"Accept": "text/event-stream"})
    assert b"text" in next(iter(response.streaming_content))  # type: ignore[attr-defined]  # a streamed one
    response.close()
    until(lambda: served.seen[-1].cut, 10, "the engine was hung up on")
    until(lambda: [row for row in records(kind="outcome") if row.outcome == "client_gone"], 10, "and it is on record")


def test_without_a_client_or_a_release_the_page_says_what_to_do(transactional_db: None, door: Enter) -> None:
    alice = door("alice")
    assert "Nothing is serving" in text(alice.get("/playground"))
    lans.serve_a_release()
    page = text(alice.get("/playground"))
    assert "The playground is not a client yet" in page
    assert "Register a client" not in page, "alice may not"
    assert "Register a client" in text(door("erin").get("/playground"))
    assert alice.get("/playground").status_code == 200
    assert door("bob").get("/playground").status_code == 403


@pytest.mark.skipif(not chromium(), reason="chromium is not installed")
def test_whatever_a_model_writes_is_text_in_chromium_and_no_element_comes_of_it(
    served: EngineStandIn, alice: SignedIn, live_server: LiveServer
) -> None:
    served.tokens = HOSTILE
    session = cookies(alice)
    wanted = {
        "elements": "document.getElementById('answer-text').children.length",
        "text": "document.getElementById('answer-text').textContent",
        "title": "document.title",
        "planted": "document.querySelectorAll('main :is(img, iframe, style, a[href^=javascript])').length",
        "forms": "document.forms.length",
    }
    press = ("press", "#playground [type=submit]", "")
    whole = "#answer-facts:not([hidden])"
    found = browse(
        live_server.url,
        [
            Visit("script", "/playground", session, [press, ("wait", whole, "")], ask=wanted),
            Visit("plain", "/playground", session, [press, ("wait", whole, "")], ask=wanted, scripts=False),
        ],
    )
    for one in found.values():
        assert one.problems == []
        assert one.asked["text"] == "".join(HOSTILE)
        assert (one.asked["elements"], one.asked["planted"]) == (0, 0)
        assert one.asked["title"].startswith("Playground")


@pytest.mark.skipif(not chromium(), reason="chromium is not installed")
def test_cancel_stops_it_in_chromium(served: EngineStandIn, alice: SignedIn, live_server: LiveServer) -> None:
    served.pause_s = 2
    session = cookies(alice)
    steps = [
        ("press", "#playground [type=submit]", ""),
        ("wait", "#answer-state:text('Answering')", ""),
        ("press", "[data-cancel]", ""),
        ("wait", "#answer-state:text('Cancelled')", ""),
    ]
    found = browse(live_server.url, [Visit("cancel", "/playground", session, steps, looks=())])
    assert found["cancel"].problems == []
    until(lambda: served.seen[-1].cut, 10, "the engine was hung up on")


def test_the_log_is_not_told_what_was_tried(
    served: EngineStandIn, alice: SignedIn, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.dumps({"plan": "Quimby"})
    asked(alice, content=content)
    assert "Quimby" not in caplog.text
    assert all("Quimby" not in str(row) for row in records())
