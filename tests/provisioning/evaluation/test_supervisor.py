"""The evaluation's supervisor restarts what dies, holds what is held, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from provisioning.evaluation import supervisor
from provisioning.evaluation.supervisor import Program, Supervisor, born, spawn
from tests.waiting import until

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
STUBBORN = [sys.executable, "-c", DEAF]
REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path


@pytest.fixture
def keeper(base: Path) -> Iterator[Supervisor]:
    keeper = Supervisor(base, say=lambda _line: None)
    yield keeper
    keeper.stop_all()


def program(base: Path, name: str, command: list[str]) -> Program:
    environment = {**os.environ, supervisor.MARKER: str(base)}
    return Program(
        name,
        partial(
            spawn, command, log=base / f"{name}.log", environment=environment, cwd=base, stop_signal=signal.SIGTERM
        ),
    )


def pid_of(base: Path, name: str) -> int:
    return supervisor.read_table(base).get(name, {}).get("pid", 0)


def test_a_killed_process_is_started_again(base: Path, keeper: Supervisor) -> None:
    keeper.start(program(base, "sleeper", SLEEPER))
    first = pid_of(base, "sleeper")
    os.kill(first, signal.SIGKILL)
    assert keeper.wait_until(lambda: pid_of(base, "sleeper") not in (0, first), 10)


def test_one_that_keeps_dying_is_started_less_and_less_often(base: Path, keeper: Supervisor) -> None:
    keeper.start(program(base, "mayfly", [sys.executable, "-c", "raise SystemExit(3)"]))
    child = keeper.children["mayfly"]
    keeper.wait_until(lambda: child.failures >= 2, 10)
    assert child.starts == 2
    assert child.not_before - child.started >= supervisor.BACK_OFF_S[1]


def test_a_held_process_stays_down_until_it_is_released(base: Path, keeper: Supervisor) -> None:
    keeper.start(program(base, "sleeper", SLEEPER))
    hold = keeper.hold_file("sleeper")
    hold.parent.mkdir()
    hold.touch()
    assert keeper.wait_until(lambda: pid_of(base, "sleeper") == 0, 10)
    for _ in range(5):
        keeper.turn()
    assert pid_of(base, "sleeper") == 0
    hold.unlink()
    assert keeper.wait_until(lambda: pid_of(base, "sleeper") != 0, 10)


def test_stopping_ends_even_one_that_ignores_the_signal(
    base: Path, keeper: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STOP_TIMEOUT_S", 0.3)
    keeper.start(program(base, "sleeper", SLEEPER))
    keeper.start(program(base, "stubborn", STUBBORN))
    until(lambda: b"deaf" in (base / "stubborn.log").read_bytes(), 20, "it ignores the signal")
    pids = [pid_of(base, "sleeper"), pid_of(base, "stubborn")]
    keeper.stop_all()
    assert [born(pid) for pid in pids] == [0, 0]
    assert not keeper.table.exists()


def run_apart(base: Path, command: list[str]) -> subprocess.Popen[bytes]:
    """A supervisor in a process of its own, which a test can kill."""
    code = f"""
        import sys; sys.path.insert(0, {str(REPOSITORY)!r}); sys.path.insert(0, {str(REPOSITORY)!r} + "/tests")
        from pathlib import Path
        from tests.provisioning.evaluation.test_supervisor import program
        from provisioning.evaluation.supervisor import Supervisor
        keeper = Supervisor(Path({str(base)!r}))
        keeper.start(program(Path({str(base)!r}), "child", {command!r}))
        keeper.wait_until(lambda: False, 600)
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=REPOSITORY)


def test_children_die_with_a_killed_supervisor(base: Path) -> None:
    apart = run_apart(base, SLEEPER)
    child = until(lambda: pid_of(base, "child"), 20, "the child runs")
    apart.kill()
    apart.wait()
    until(lambda: born(child) == 0, 10, "the child is gone")


def test_cleaning_up_ends_a_running_site_and_what_it_left(base: Path) -> None:
    # A grandchild in its own session with a clean environment, as the engine is under its keeper.
    grandchild = f"""
        import subprocess, time
        subprocess.Popen(["sleep", "600"], env={{"HOME": {str(base / "state" / "engine")!r}}}, start_new_session=True)
        time.sleep(600)
    """
    apart = run_apart(base, [sys.executable, "-c", textwrap.dedent(grandchild)])
    until(lambda: pid_of(base, "child"), 20, "the child runs")
    home = f"HOME={base}/state/engine".encode()

    def left_over() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and home in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(entry.name)
            except OSError:
                continue
        return found

    until(left_over, 10, "the grandchild runs")
    apart.kill()
    apart.wait()
    assert left_over(), "the kernel's signal does not reach it; cleaning up must"
    supervisor.clean_up(base)
    until(lambda: not left_over(), 10, "the grandchild is gone")
    assert supervisor.clean_up(base) == []


def test_a_stranger_with_an_old_number_is_left_alone(base: Path) -> None:
    stranger = subprocess.Popen(SLEEPER)
    try:
        row = {"pid": stranger.pid, "born": born(stranger.pid) - 1, "starts": 1}
        (base / "processes.json").write_text(
            json.dumps({"supervisor": row, "children": {"worker": row}}), encoding="utf-8"
        )
        assert supervisor.clean_up(base) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
