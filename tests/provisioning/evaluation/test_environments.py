"""An environment is filled when its locks changed and left alone, in milliseconds, when they did not."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from provisioning.evaluation import environments
from provisioning.evaluation.steps import Step


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks and environments of our own; installing is recorded instead of done (the registry is not what we test)."""
    for name in ("requirements.lock", "tests/requirements.lock", "engine.lock", "bootstrap.lock"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{Path(name).stem}==1\n")
    monkeypatch.setattr(environments, "REPOSITORY", tmp_path)
    monkeypatch.setattr(environments, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environments, "ENGINE", tmp_path / ".engine")
    monkeypatch.setattr(environments, "RUNTIME_LOCK", tmp_path / "requirements.lock")
    monkeypatch.setattr(environments, "TEST_LOCK", tmp_path / "tests" / "requirements.lock")
    monkeypatch.setattr(environments, "BOOTSTRAP_LOCK", tmp_path / "bootstrap.lock")
    monkeypatch.setattr(environments, "ENGINE_LOCKS", {"cpu": tmp_path / "engine.lock"})
    return tmp_path


@pytest.fixture
def installs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []

    def call(step: Step, command: list[str], what: str, environment: dict[str, str] | None = None) -> int:
        done.append(" ".join(command))
        if command[1:3] == ["-m", "venv"]:
            Path(command[3]).mkdir()
        return 0

    monkeypatch.setattr(environments, "_call", call)
    return done


def test_a_second_run_with_the_same_locks_installs_nothing(repository: Path, installs: list[str]) -> None:
    environments.fill_venv(Step("first"), tests=False)
    assert installs
    installs.clear()
    started = time.monotonic()
    environments.fill_venv(Step("second"), tests=False)
    assert installs == []
    assert time.monotonic() - started < 0.1


def test_a_changed_lock_is_installed_again_by_hash(repository: Path, installs: list[str]) -> None:
    environments.fill_venv(Step("first"), tests=False)
    installs.clear()
    (repository / "requirements.lock").write_text("django==2\n")
    environments.fill_venv(Step("second"), tests=False)
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]


def test_the_test_packages_stay_when_only_the_product_is_wanted(repository: Path, installs: list[str]) -> None:
    environments.fill_venv(Step("tests"), tests=True)
    installs.clear()
    environments.fill_venv(Step("up"), tests=False)
    assert installs == []


def test_another_python_makes_the_environment_anew(
    repository: Path, installs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environments.fill_venv(Step("first"), tests=False)
    installs.clear()
    monkeypatch.setattr(sys, "version", "3.11.99 (later)")
    environments.fill_venv(Step("second"), tests=False)
    assert any(" -m venv " in command for command in installs)


def test_a_damaged_stamp_counts_as_none(repository: Path, installs: list[str]) -> None:
    environments.fill_venv(Step("first"), tests=False)
    installs.clear()
    (repository / ".venv" / environments.STAMP).write_text("{}")
    environments.fill_venv(Step("second"), tests=False)
    assert installs


def test_an_install_that_failed_leaves_no_stamp(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_call", lambda *_arguments, **_options: 1)
    with pytest.raises(environments.EnvironmentsError):
        environments.fill_venv(Step("fails"), tests=False)
    assert environments.Stamp.read(repository / ".venv") is None


def test_the_engine_is_kept_while_its_lock_is_the_same(repository: Path, installs: list[str]) -> None:
    engine = repository / ".engine"
    engine.mkdir()
    environments.Stamp.of([repository / "engine.lock"], "torch.whl sha256:00").write(engine)
    monkey_device = environments.ENGINE_LOCKS
    assert "cpu" in monkey_device
    environments.fill_engine(Step("engine"))
    assert installs == []


def test_an_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOWARD_DEVICE", "abacus")
    with pytest.raises(environments.EnvironmentsError, match="write cpu or cuda"):
        environments.device()


def test_the_locks_name_no_index_and_hold_a_hash_for_every_package() -> None:
    real = Path(environments.__file__).resolve().parents[2]
    locks = [real / "requirements.lock", real / "tests" / "requirements.lock", *(real / "provisioning").rglob("*.lock")]
    assert len(locks) >= 5
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text, lock
        pins = [line for line in text.splitlines() if line[:1].isalnum()]
        assert pins, lock
        assert all(line.endswith("\\") and "==" in line for line in pins), lock
    everything = "\n".join(lock.read_text() for lock in locks)
    fixed = "django django-otp celery redis vllm nvidia-ml-py psycopg cryptography gunicorn pytest-django"
    for name in fixed.split():
        assert f"\n{name}==" in everything or f"\n{name}[" in everything, name
