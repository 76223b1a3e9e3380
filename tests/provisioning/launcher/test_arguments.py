"""Our lists of arguments against the real program's own help, and the defaults against our lists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from provisioning import site_config
from provisioning.launcher import arguments
from provisioning.launcher.errors import LaunchRefusedError
from tests.provisioning.launcher.conftest import REPOSITORY, Slot

ENGINE = REPOSITORY / ".engine" / "bin" / "python"


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every flag of the vLLM that is installed."""
    command = [str(ENGINE), "-I", "-m", "vllm.entrypoints.cli.main", "serve", "--help=all"]
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    return set(re.findall(r"--[a-z0-9][a-z0-9-]+", told.stdout))


def test_every_argument_we_give_require_or_forbid_exists_in_this_vllm(known: set[str]) -> None:
    """An argument that vanished is a control that no longer runs; the pinned version must have them all."""
    ours = {*arguments._FIXED, *arguments._FREE, *arguments.FORBIDDEN}
    assert ours - known == set()


def test_the_defaults_pass_our_own_lists_and_harden_what_must_be_hardened(slot: Slot) -> None:
    made = slot.order.facts
    arguments.check(made["arguments"], served_model_name="demo")
    arguments.check_environment(made["environment"])
    assert not arguments.FORBIDDEN & set(made["arguments"])
    assert made["arguments"][made["arguments"].index("--max-model-len") + 1] == "64"  # what the model can, not the box


def test_defaults_for_a_gpu_do_not_force_what_only_a_cpu_needs(slot: Slot) -> None:
    text = slot.site_file.read_text().replace('device = "cpu"', 'device = "cuda"')
    slot.site_file.write_text(text)
    made = arguments.default(site_config.read(slot.site_file), _Release(slot.order.release))
    assert "--enforce-eager" not in made.arguments
    assert "VLLM_CPU_KVCACHE_SPACE" not in made.environment
    arguments.check(made.arguments, served_model_name="demo")


class _Release:
    def __init__(self, digest: str) -> None:
        self.digest, self.name = digest, "demo"


def test_an_argument_without_its_value_is_refused(slot: Slot) -> None:
    words = [*slot.order.facts["arguments"], "--dtype"]
    words.remove("--dtype")
    words.remove("float32")
    with pytest.raises(LaunchRefusedError) as caught:
        arguments.check(words, served_model_name="demo")
    assert caught.value.code == "argument_value"


def test_two_installations_of_the_engine_are_none(tmp_path: Path) -> None:
    for version in ("0.32.0", "0.33.0"):
        folder = tmp_path / "lib" / "python3.11" / "site-packages" / f"vllm-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    with pytest.raises(LaunchRefusedError) as caught:
        arguments.engine_version(tmp_path / "bin" / "python")
    assert caught.value.code == "engine_missing"
