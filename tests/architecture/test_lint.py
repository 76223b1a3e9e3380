"""ruff and mypy strict, shown one fault, find it. That they find none in the tree is `make check`, a part of `make test`."""

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
