"""ruff, mypy strict and the formatter find nothing; and each, shown one fault, finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run(root: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / program), *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ruff_finds_nothing() -> None:
    told = run(ROOT, "ruff", "check", "--no-cache", "--output-format", "concise", ".")
    assert told.returncode == 0, told.stdout


def test_every_file_is_formatted() -> None:
    told = run(ROOT, "ruff", "format", "--no-cache", "--check", ".")
    assert told.returncode == 0, told.stdout


@pytest.mark.timeout(900)
def test_mypy_strict_finds_nothing() -> None:
    told = run(ROOT, "mypy")
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ('"""A file."""\n\nimport os\n', "F401"),
        ('"""A file."""\n\nfrom urllib.request import urlopen\n\nprint(urlopen)\n', "TID251"),
        ('"""A file."""\n\n\ndef act(fact: int) -> None:\n    assert fact\n', "S101"),
        ("def act() -> None: ...\n", "D100"),
    ],
)
def test_ruff_sees_a_planted_fault(source: str, code: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "planted.py").write_text(source)

    told = run(tmp_path, "ruff", "check", "--no-cache", "--output-format", "concise", ".")

    assert f" {code} " in told.stdout


def test_mypy_sees_a_planted_fault(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def act(fact):\n    return fact\n")

    told = run(ROOT, "mypy", "--cache-dir", str(tmp_path / "cache"), "--follow-imports", "skip", str(planted))

    assert told.returncode == 1
    assert "no-untyped-def" in told.stdout
