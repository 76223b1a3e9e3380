"""The first Python that runs: with the system's interpreter and the standard library, until the environments exist.

Decides: which environments a command needs. Leaves to others: filling them (environments), the command (up, test_run).
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable

from provisioning.evaluation import environments
from provisioning.evaluation.steps import Step, Steps

STEPS_KEY = "ISOWARD_STEPS_TAKEN"
_MODULES = {"up": "provisioning.evaluation.up", "bench": "tests.bench"}


def main() -> int:
    """`bootstrap up SITE`, `bootstrap test`, `bootstrap check`, `bootstrap bench NAME`."""
    command, arguments = sys.argv[1], sys.argv[2:]
    if sys.version_info[:2] != (3, 11):
        print(
            f"the locks are for Python 3.11 and this is {platform.python_version()}: make PYTHON=python3.11 {command}"
        )
        return 2
    tests = command in ("test", "check", "bench")
    steps = Steps()
    try:
        _step(steps, "environment .venv from its lock", lambda step: environments.fill_venv(step, tests=tests))
        if command != "check":
            _step(steps, f"environment .engine ({environments.device()}) from its lock", environments.fill_engine)
    except environments.EnvironmentsError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    module = _MODULES.get(command, "provisioning.evaluation.test_run")
    python = str(environments.VENV / "bin" / "python")
    os.environ[STEPS_KEY] = json.dumps(steps.as_json())
    sys.stdout.flush()
    return os.execv(python, [python, "-m", module, *(arguments or [command])])  # noqa: S606 - no shell


def _step(steps: Steps, name: str, act: Callable[[Step], None]) -> None:
    with steps.step(name) as step:
        act(step)


if __name__ == "__main__":
    sys.exit(main())
