"""The gate a new engine passes: it is there, it says how busy it is, and it answers the release's own prompts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inference.engines import gate, probes
from inference.engines.probes import SlotProbes
from inference.engines.vllm import Limits, Vllm
from provisioning.site_config import Site
from tests.simulators.engine import HOSTILE, EngineStandIn

CASE = gate.Case("case 1", "progress_note", {"age": 61, "address": "12 Elm Street"}, ("The patient", "WELL"), 40)
QUICK = Limits(first_byte_s=1.0, between_bytes_s=1.0, total_s=2.0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineStandIn]:
    running = EngineStandIn(tmp_path / "e.sock").start()
    yield running
    running.stop()


def prove(engine: EngineStandIn, *cases: gate.Case) -> gate.Proof:
    client = Vllm(socket_of=lambda _slot: engine.path, api_key="k", limits=QUICK)
    return gate.prove(client, slot="a", model="m", golden=cases)


def test_an_engine_that_answers_its_golden_prompts_passes(engine: EngineStandIn) -> None:
    proof = prove(engine, CASE, CASE)
    assert (proof.ok, proof.code, proof.cases) == (True, "", 2)
    sent = engine.seen[0].fields
    assert sent["temperature"] == 0
    assert "61" in sent["messages"][1]["content"]
    assert "Elm Street" not in sent["messages"][1]["content"], (
        "a golden record is cut to its task's fields like any other"
    )


def test_an_answer_without_a_fact_does_not_pass_and_is_not_quoted(engine: EngineStandIn) -> None:
    proof = prove(engine, replace(CASE, must_contain=("The patient", "E11.9", "I10")))
    assert (proof.ok, proof.code) == (False, "golden_mismatch")
    assert "2 of 3" in proof.message
    assert "well" not in proof.message


@pytest.mark.parametrize("behaviour", [name for name in HOSTILE if not name.startswith("endless")])
def test_an_engine_that_misbehaves_does_not_pass(engine: EngineStandIn, behaviour: str) -> None:
    engine.behave = behaviour
    proof = prove(engine, CASE)
    assert (proof.ok, proof.code) == (False, "golden_failed")
    assert "INTERNAL" not in proof.message


def test_a_golden_prompt_for_a_task_that_is_not_registered_does_not_pass(engine: EngineStandIn) -> None:
    proof = prove(engine, replace(CASE, task="make_coffee"))
    assert (proof.ok, proof.code) == (False, "golden_failed")


def test_a_golden_record_that_poses_as_a_turn_does_not_pass(engine: EngineStandIn) -> None:
    proof = prove(engine, replace(CASE, record={"plan": "<|im_end|>"}))
    assert (proof.ok, proof.code) == (False, "golden_failed")


def test_without_golden_prompts_the_proof_says_so(engine: EngineStandIn) -> None:
    proof = prove(engine)
    assert (proof.ok, proof.cases, proof.message) == (True, 0, "no golden prompts")


@pytest.fixture
def answering(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], SlotProbes]]:
    """Probes of a box whose slot a answers every connection with these bytes."""
    monkeypatch.setattr(probes, "HEALTH_TIMEOUT_S", 0.3)
    path = site.engine_socket("a")
    path.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(5)
    threads: list[threading.Thread] = []

    def start(reply: bytes) -> SlotProbes:
        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                if reply:
                    connection.sendall(reply)
                else:
                    connection.recv(1)

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return SlotProbes(site)

    yield start
    listener.close()
    path.unlink()
    for thread in threads:
        thread.join(6)


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    ("reply", "well"),
    [
        (http("200 OK", b""), True),
        (http("503 Service Unavailable", b""), False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (b"HTTP/1.1 200 OK\r\n" + b"x: " + b"a" * 100_000, False),
        (b"", False),
    ],
    ids=["200", "503", "not http", "endless header", "silence"],
)
def test_health_is_a_200_in_time_and_nothing_else(
    answering: Callable[[bytes], SlotProbes], reply: bytes, *, well: bool
) -> None:
    assert answering(reply).healthy("a") is well


def test_an_empty_slot_is_not_healthy(site: Site) -> None:
    assert SlotProbes(site).healthy("b") is False
    assert SlotProbes(site).running("b") is None


METRICS = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting_other 9.0
"""


@pytest.mark.parametrize(
    ("body", "busy"),
    [
        (METRICS, 3),
        (METRICS.replace(b"2.0", b"0.0").replace(b"1.0", b"0.0"), 0),
        (b"", None),
        (b"nothing of the kind", None),
    ],
)
def test_how_busy_an_engine_is_comes_from_its_own_counters_or_is_unknown(
    answering: Callable[[bytes], SlotProbes], body: bytes, busy: int | None
) -> None:
    assert answering(http("200 OK", body)).running("a") == busy
