"""The publisher's commands as two people use them, each with a key of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioning.bundle.__main__ import main
from tests.simulators.bundle_maker import BundleMaker


def test_two_people_make_sign_and_check_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = BundleMaker(tmp_path / "source").tree
    keys, medium = tmp_path / "keys", tmp_path / "medium"
    for name in ("pat", "quinn"):
        assert main(["new-keys", "--out", str(keys), "--name", name]) == 0
        assert (keys / f"{name}.pem").stat().st_mode & 0o777 == 0o600
    public = [str(keys / "pat.pub"), str(keys / "quinn.pub")]
    assert main(["new-root", "--out", str(medium), "--public", *public]) == 0
    assert main(["pack", "--repo", str(medium), "--bundle", "demo", "--files", str(files)]) == 0
    root = ["--root", str(medium / "metadata" / "1.root.json")]
    assert main(["sign", "--repo", str(medium), "--key", str(keys / "pat.pem")]) == 0
    assert main(["verify", "--medium", str(medium), "--bundle", "demo", *root]) == 1
    assert main(["sign", "--repo", str(medium), "--key", str(keys / "quinn.pem")]) == 0
    capsys.readouterr()
    assert main(["verify", "--medium", str(medium), "--bundle", "demo", *root]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["ok"] is True


def test_the_evaluation_bundle_of_this_repository_is_accepted_with_its_public_root(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(__file__).resolve().parents[3] / "offline-bundles"
    root, name = str(folder / "evaluation-root.json"), "isoward-clinical-demo"
    assert main(["verify", "--medium", str(folder / "evaluation"), "--root", root, "--bundle", name]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == name


def test_no_private_key_lies_beside_the_evaluation_bundle() -> None:
    folder = Path(__file__).resolve().parents[3] / "offline-bundles"
    for path in folder.rglob("*"):
        assert path.suffix != ".pem"
        if path.is_file() and path.stat().st_size < 1_000_000:
            assert b"PRIVATE KEY" not in path.read_bytes()
