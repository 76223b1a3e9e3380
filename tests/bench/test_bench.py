"""The measuring tools measure: the caller sees a lost token and a cut answer, and a verdict goes by the worst repetition."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import judge, load, report
from tests.bench.judge import Goal
from tests.waiting import until

SOURCES = Path(__file__).parent
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if shutil.which("gcc") is None:
        pytest.fail("gcc is needed: Debian's package gcc")
    folder = tmp_path_factory.mktemp("bench")
    for name in ("stub", "load"):
        subprocess.run(
            ["gcc", "-O1", "-Wall", "-Werror", "-o", str(folder / name), str(SOURCES / f"{name}.c")], check=True
        )
    return {name: folder / name for name in ("stub", "load")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(
    programs: dict[str, Path], folder: Path, address: str, *, tokens: int, body: dict[str, Any], limit: int = 8
) -> Any:
    requests = load.write_requests(folder / "requests", [load.http(body, "key")])
    command = [str(programs["load"]), address, "4", "20", str(limit), str(tokens), str(requests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


@pytest.fixture
def engine(programs: dict[str, Path], tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "engine.sock"
    process = subprocess.Popen([str(programs["stub"]), str(path), str(free_port())])
    until(path.exists, 5, "the stub listens")
    yield f"unix:{path}"
    process.kill()
    process.wait()


@pytest.mark.parametrize("pause_ms", [0, 2])
def test_every_token_of_every_stream_is_counted(
    programs: dict[str, Path], tmp_path: Path, engine: str, pause_ms: int
) -> None:
    body = load.Load("x", connections=4, stream=True, tokens=17, pause_ms=pause_ms).body("m")
    found = call(programs, tmp_path, engine, tokens=17, body=body)
    assert (found["answers"], found["faults"], found["tokens"], found["lost"]) == (8, 0, 8 * 17, 0)
    assert found["gap_us"]["n"] == 8 * 16
    assert found["spent"] == 8 * 17


def test_an_answer_in_one_piece_is_whole(programs: dict[str, Path], tmp_path: Path, engine: str) -> None:
    body = load.Load("x", connections=4, stream=False, tokens=17).body("m")
    found = call(programs, tmp_path, engine, tokens=0, body=body)
    assert (found["answers"], found["faults"]) == (8, 0)


def token(number: int) -> bytes:
    data = b'data: {"choices":[{"delta":{"content":" ~%d:1"}}]}\n\n' % number
    return b"%x\r\n%s\r\n" % (len(data), data)


DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
WHOLE = HEAD + token(0) + token(1) + token(2) + DONE


@pytest.mark.parametrize(
    ("answer", "faults", "lost"),
    [
        (WHOLE, 0, 0),
        (HEAD + token(0) + token(2) + DONE, 0, 3),  # the gap, and two of three never seen in order
        (HEAD + token(0) + token(1) + DONE, 0, 1),
        (HEAD + token(0) + token(1) + token(2) + b"0\r\n\r\n", 1, 0),  # no [DONE]
        (HEAD + token(0) + token(1) + token(2), 1, 0),  # no end
        (b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno", 1, 0),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 1, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_what_is_not_a_whole_answer_is_a_fault_and_what_is_missing_is_lost(
    programs: dict[str, Path], tmp_path: Path, answer: bytes, faults: int, lost: int, piece: int
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        threading.Thread(target=answer_once, args=(listener, answer, piece), daemon=True).start()
        body = load.Load("x", connections=1, stream=True, tokens=3).body("m")
        requests = load.write_requests(tmp_path / "requests", [load.http(body, "key")])
        address = f"tcp:{listener.getsockname()[1]}"
        command = [str(programs["load"]), address, "1", "20", "1", "3", str(requests)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    found = json.loads(done.stdout)
    assert (found["answers"], found["faults"], found["lost"]) == (1, faults, lost)


def answer_once(listener: socket.socket, answer: bytes, piece: int) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(65_536)
        for at in range(0, len(answer), piece):
            connection.sendall(answer[at : at + piece])


def repetition(gateway: float, nginx: float, *, steal: float = 0.0, faults: int = 0) -> dict[str, Any]:
    arms = {"gateway": gateway, "nginx": nginx}
    return {
        "loads": {"stream": {name: {"cpu_us": cpu, "steal": steal, "faults": faults} for name, cpu in arms.items()}}
    }


GOALS = (Goal("cpu", "CPU", judge.ratio("stream", "cpu_us", "gateway", "nginx"), at_most=2.0),)


def judged(*repetitions: dict[str, Any]) -> dict[str, Any]:
    return judge.verdict(repetitions, GOALS, judge.void(repetitions, control="nginx", figure="cpu_us"))


def test_a_goal_is_met_by_its_worst_repetition_and_not_by_its_median() -> None:
    assert judged(*[repetition(150, 100)] * 4)["goals"]["cpu"]["met"] is True
    found = judged(*[repetition(150, 100)] * 4, repetition(210, 100))
    assert found["goals"]["cpu"]["met"] is False
    assert (found["ratios"]["cpu"]["worst"], found["ratios"]["cpu"]["median"], found["n"]) == (2.1, 1.5, 5)


@pytest.mark.parametrize("bad", [repetition(900, 130), repetition(900, 100, steal=2.1), repetition(900, 100, faults=1)])
def test_a_disturbed_repetition_decides_nothing_and_is_counted(bad: dict[str, Any]) -> None:
    found = judged(*[repetition(150, 100)] * 4, bad)
    assert (found["n"], found["ratios"]["cpu"]["n"], found["goals"]["cpu"]["met"]) == (5, 4, True)


def test_a_disturbed_load_takes_no_other_load_with_it() -> None:
    quiet = repetition(150, 100)
    bad = {"loads": {**quiet["loads"], "whole": repetition(900, 100, faults=1)["loads"]["stream"]}}
    assert judge.void([bad], control="nginx", figure="cpu_us") == [{"whole": "1 answers on gateway were not whole"}]
    assert judged(bad)["ratios"]["cpu"]["n"] == 1


def test_what_must_never_happen_is_counted_in_void_loads_too() -> None:
    never = Goal("cut", "cut", lambda r: float(r["loads"]["stream"]["gateway"]["faults"]), at_most=0, always=True)
    bad = [repetition(150, 100, faults=1)]
    found = judge.verdict(bad, (never,), judge.void(bad, control="nginx", figure="cpu_us"))
    assert found["goals"]["cut"]["met"] is False


def test_with_nothing_to_judge_by_no_goal_is_met() -> None:
    assert judged(repetition(150, 100, steal=50))["goals"]["cpu"]["met"] is None


def test_the_page_shows_what_was_missed_and_what_was_void() -> None:
    repetitions = [repetition(150, 100), repetition(210, 100), repetition(1, 100, faults=1)]
    voids = judge.void(repetitions, control="nginx", figure="cpu_us")
    for one in repetitions:
        for arm in one["loads"]["stream"].values():
            arm["other_cpu_busy"] = 50.0
    machine = dict.fromkeys(
        ("at", "commit", "cpu", "cpus", "memory_gib", "system", "kernel", "python", "load_before"), "x"
    )
    machine |= {"fdatasync_us": "x", "postgres": "x", "changed": "", "python_optimised": "", "flags": ""}
    found = {
        "name": "gateway",
        **judge.verdict(repetitions, GOALS, voids),
        "repetitions": [{**one, "void": why} for one, why in zip(repetitions, voids, strict=True)],
        "machine": {**machine, "versions": {}, "settings": {}},
        "notes": [],
    }
    text = report.page(found)
    assert "| CPU | at most 2 | 2.1 | 1.8 | 2 | **missed** |" in text
    assert "3 repetitions; loads of them that decide nothing: stream: 1 answers on gateway were not whole." in text
