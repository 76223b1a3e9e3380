"""`docs/api/errors.md` is what the code says, to the letter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from inference.api.errors import TABLE
from inference.api.errors_page import WORDS, page

ROOT = Path(__file__).resolve().parents[2]


def test_every_code_has_its_words_once_and_no_other_has() -> None:
    named = [code for codes in WORDS.values() for code in codes]
    assert sorted(named) == sorted(TABLE)


def test_the_page_is_the_one_that_the_code_writes() -> None:
    assert (ROOT / "docs" / "api" / "errors.md").read_text(encoding="utf-8") == page(), "run: make docs"


def test_the_command_writes_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inference.api.errors_page"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == page()
