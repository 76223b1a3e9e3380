"""The clients that apps are written with, unchanged: OpenAI's for Node, LangChain's, and instructor.

OpenAI's for Python is the client of most tests beside this one. The engine behind the door writes JSON as a grammar would
have it; real vLLM is in tests/flows.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Literal

import instructor
import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from tests.simulators import lan as lans
from tests.simulators.lan import MODEL, Lan
from tests.waiting import until

NODE = Path(__file__).resolve().parents[2] / "clients" / "node"
NOTE = {"task": "progress_note", "purpose": "TREAT"}
TALK = {"task": "conversation", "purpose": "TREAT"}
WORDS = "The patient is well."


class Urgency(BaseModel):
    """How soon somebody must look."""

    level: Literal["urgent", "routine"]
    reason: str


@tool
def look_up(code: str) -> str:
    """Look up what a diagnosis code stands for."""
    return f"{code} is hypertension"


@pytest.fixture
def app(lan: Lan) -> Lan:
    """A client that is granted all that apps of its kind use."""
    lan.engine.behave = "obey"
    lan.key = lans.new_key_with(f"{lan.client}-app", features=["tools", "json_schema"], tools=["look_up", "Urgency"])
    offer = {"type": "function", "function": {"name": "look_up"}}
    asked = {
        "model": "default",
        "messages": [{"role": "user", "content": "Hello."}],
        "metadata": TALK,
        "tools": [offer],
    }
    until(lambda: lan.ask("POST", "/v1/chat/completions", asked).status == 200, 10, "the key's grants are known")
    return lan


# --- Node


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Exactly what the lock says, without running anything of it; installed once for each lock."""
    installed = NODE / "node_modules" / ".package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < (NODE / "package-lock.json").stat().st_mtime:
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=NODE, check=True, timeout=240)
    return NODE


def test_openais_client_for_node_does_all_it_does_elsewhere(app: Lan, node_modules: Path) -> None:
    done = subprocess.run(
        ["node", "ask.mjs"],
        cwd=node_modules,
        env={"PATH": os.environ["PATH"], "BASE_URL": app.url, "API_KEY": app.key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = {line["name"]: line["found"] for line in map(json.loads, done.stdout.splitlines())}
    assert found["models"] == [MODEL]
    for name in ("chat", "stream"):
        assert found[name]["text"] == WORDS
        assert found[name]["tokens"] == 15
        assert found[name]["receipt"]["task"] == "progress_note"
    assert found["streamHelper"] == {"text": WORDS}
    assert found["tools"] == {"name": "look_up", "given": {"code": "well"}, "finish": "tool_calls", "text": WORDS}
    assert found["schema"] == {"given": {"level": "urgent"}}
    assert found["responses"] == {"text": WORDS, "status": "completed"}
    refused = {"kind": "BadRequestError", "code": "unknown_field", "param": "chat_template", "status": 400}
    assert found["refusal"] == refused
    assert found["badKey"] == {"kind": "AuthenticationError", "code": "invalid_api_key"}


# --- LangChain


def chain(app: Lan, metadata: dict[str, str], **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=app.url,
        api_key=SecretStr(app.key),
        model="default",
        max_retries=0,
        timeout=20,
        extra_body={"metadata": metadata},
        **more,
    )


def test_langchain_invokes_and_streams(app: Lan) -> None:
    model = chain(app, NOTE)
    record = json.dumps(lans.RECORD)
    answer = model.invoke(record)
    assert answer.content == WORDS
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 4
    assert answer.response_metadata["model_name"] == MODEL
    assert "".join(str(chunk.content) for chunk in model.stream(record)) == WORDS
    assert [reply.content for reply in model.batch([record, record])] == [WORDS, WORDS]


async def test_langchain_asks_in_an_event_loop(app: Lan) -> None:
    model = chain(app, NOTE)
    record = json.dumps(lans.RECORD)
    assert (await model.ainvoke(record)).content == WORDS
    assert "".join([str(chunk.content) async for chunk in model.astream(record)]) == WORDS


@pytest.mark.parametrize("choice", [None, "auto", "any", "look_up"])
def test_langchain_binds_tools_and_gives_their_results_back(app: Lan, choice: str | None) -> None:
    chosen: Any = {} if choice is None else {"tool_choice": choice}
    model = chain(app, TALK).bind_tools([look_up], **chosen)
    question = HumanMessage("What is I10?")
    asked = model.invoke([question])
    assert isinstance(asked, AIMessage)
    (call,) = asked.tool_calls
    assert (call["name"], call["args"]) == ("look_up", {"code": "well"})
    result = look_up.invoke(call)
    assert isinstance(result, ToolMessage)
    assert chain(app, TALK).invoke([question, asked, result]).content == WORDS


def test_langchain_streams_a_call_whole(app: Lan) -> None:
    whole: Any = None
    for chunk in chain(app, TALK).bind_tools([look_up]).stream("What is I10?"):
        whole = chunk if whole is None else whole + chunk
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("look_up", {"code": "well"})]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_gets_structured_output(app: Lan, method: Literal["json_schema", "function_calling"]) -> None:
    found = chain(app, TALK).with_structured_output(Urgency, method=method).invoke("How urgent is a cough?")
    assert found == Urgency(level="urgent", reason="well")


def test_langchain_shows_a_refusal_as_openais_error(app: Lan) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chain(app, NOTE, model_kwargs={"logit_bias": {"1": 1}}).invoke(json.dumps(lans.RECORD))
    assert (refused.value.code, refused.value.param) == ("unknown_field", "logit_bias")


# --- instructor


@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS_STRICT])
def test_instructor_gets_its_object(app: Lan, mode: instructor.Mode) -> None:
    with openai.OpenAI(base_url=app.url, api_key=app.key, max_retries=0, timeout=20) as official:
        client = instructor.from_openai(official, mode=mode)
        found = client.chat.completions.create(
            model="default",
            response_model=Urgency,
            messages=[{"role": "user", "content": "How urgent is a cough?"}],
            metadata=TALK,
            max_retries=0,
        )
    assert found.model_dump() == {"level": "urgent", "reason": "well"}
