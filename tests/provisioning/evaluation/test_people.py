"""The evaluation's cast: codes any authenticator app would show, and a file that only its owner reads."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest

from provisioning.evaluation import people


@pytest.mark.parametrize(("at", "code"), [(59, "287082"), (1111111109, "081804"), (2000000000, "279037")])
def test_the_code_is_that_of_rfc_6238(at: int, code: str) -> None:
    seed = base64.b32encode(b"12345678901234567890").decode("ascii")
    person = people.Person("bob", "Bob", "password", ["approver"], seed)
    assert person.code(at) == code
    assert person.code(at + people.STEP_S) != code


def test_the_cast_is_made_once_and_is_nobody_elses_business(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    first = people.ensure(path)
    assert people.ensure(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert len({person.password for person in first.values()}) == len(people.ROLES)


def test_nobody_both_proposes_and_approves(tmp_path: Path) -> None:
    for person in people.ensure(tmp_path / "people.json").values():
        assert not {"model_operator", "approver"} <= set(person.roles), person.username


def test_asking_for_a_strangers_code_names_who_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["people", str(tmp_path), "mallory"])
    assert people.main() == 1
    assert "make up" in capsys.readouterr().err
    people.ensure(tmp_path / "people.json")
    assert people.main() == 1
    assert "alice, bob, carol" in capsys.readouterr().err
