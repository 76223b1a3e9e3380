"""The import contracts hold, and each one, broken once on purpose in a copy of the packages, is the one that fails."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.checks import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
NAMES = {contract["id"]: contract["name"] for contract in CONTRACTS}

# contract, file, the line added to it
VIOLATIONS = [
    ("floors", "inference/clients/services.py", "import console.apps"),
    ("floors", "appliance/audit/services.py", "from appliance.accounts import permissions"),
    ("floors", "appliance/changes/rules.py", "from appliance.alerts import rules as theirs"),
    ("floors", "provisioning/site_config.py", "from appliance.alerts import errors as theirs"),
    ("floors", "inference/queue/tasks.py", "from appliance.celery import app"),
    ("service", "inference/policy/rules.py", "from inference.releases import errors as theirs"),
    ("service", "inference/clients/services.py", "from inference.releases import errors as theirs"),
    ("service", "inference/scheduler/__init__.py", "# a package nobody gave a layer"),
    ("files", "inference/queue/utils.py", "# a file name nobody gave a meaning"),
    ("files", "inference/queue/services.py", "from inference.queue import tasks"),
    ("files", "inference/telemetry/rules.py", "from inference.telemetry import models as ours"),
    ("files", "appliance/alerts/selectors.py", "from appliance.alerts import services as ours"),
    ("doors", "console/pages/overview.py", "from inference.releases import models as theirs"),
    ("doors", "inference/serve.py", "from inference.clients import models as theirs"),
    ("doors", "inference/api/extra.py", "from appliance.alerts import models as theirs"),
    ("host-kit", "provisioning/canonical.py", "import django"),
    ("host-kit", "provisioning/approval.py", "from celery import shared_task"),
    ("one-door", "inference/queue/tasks.py", "import vllm"),
    ("one-door", "inference/telemetry/services.py", "import pynvml"),
    ("one-door", "appliance/accounts/services/directory.py", "import ldap3"),
    ("patients", "console/pages/queue.py", "from appliance.keyring import services as keyring"),
    ("patients", "console/pages/queue.py", "from inference.queue import results"),
    ("no-process", "console/pages/overview.py", "import subprocess"),
    ("no-process", "inference/queue/tasks.py", "from multiprocessing import Pool"),
    ("no-way-out", "inference/engines/bedrock.py", "import boto3"),
    ("no-way-out", "inference/serve.py", "import connected"),
    ("no-way-out", "provisioning/canonical.py", "import urllib3"),
    ("no-way-out", "inference/engines/supervisor.py", "import aiohttp"),
]


def lint(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`lint-imports` as a desk and CI run it, over whatever packages lie under the root."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(program), "--no-cache", *arguments],
        cwd=root,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "PYTHONPATH": str(root), "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and the contracts, free to be broken."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold() -> None:
    told = lint(ROOT)

    assert told.returncode == 0, told.stdout + told.stderr
    assert f"{len(NAMES)} kept, 0 broken" in told.stdout


def test_every_contract_is_broken_below() -> None:
    assert {contract for contract, _, _ in VIOLATIONS} == set(NAMES)


@pytest.mark.parametrize(
    ("contract", "file", "line"), VIOLATIONS, ids=[f"{contract}: {line}" for contract, _, line in VIOLATIONS]
)
def test_a_planted_violation_breaks_its_contract_and_no_other(contract: str, file: str, line: str, copy: Path) -> None:
    path = copy / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as source:
        source.write(f"\n{line}\n")

    told = lint(copy)

    assert told.returncode == 1, told.stdout + told.stderr
    broken = re.findall(r"^(.+?)\s+BROKEN", told.stdout, flags=re.MULTILINE)
    assert broken == [NAMES[contract]]
