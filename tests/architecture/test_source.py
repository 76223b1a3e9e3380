"""The rules of the source hold; and each of them, shown one violation beside its allowed neighbour, can fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.architecture import audited, checks

ROOT = Path(__file__).resolve().parents[2]

TABLE = "from django.db import models\n"
MIGRATION = "class Migration:\n    dependencies = [{}]\n"
CONTRACT = '[[tool.importlinter.contracts]]\nid = "files"\ncontainers = ["inference.queue"]\n'


@dataclass(frozen=True)
class Rule:
    """A check, a tree that must pass it, and what has to be added for one violation per entry."""

    check: Callable[[Path], list[str]]
    fine: Mapping[str, str]
    broken: tuple[Mapping[str, str], ...]


def service(body: str, *, head: str = "def act(*, actor: str) -> None:") -> Mapping[str, str]:
    return {"inference/queue/services.py": f"{head}\n    {body}\n"}


RULES = {
    "services are audited": Rule(
        audited.unaudited_services,
        {
            "inference/queue/services.py": "def act(*, actor: str) -> None:\n    _told(actor)\n\n"
            "def _told(actor: str) -> None:\n    audit.record(actor=actor)\n\n"
            "@unaudited('bookkeeping')\ndef claim() -> None: ...\n"
        },
        (
            service("pass"),
            service("audit.record(actor=actor)", head="def act(*, job: int, actor: str) -> None:"),
            service("audit.record(actor=actor)", head="def act(actor: str) -> None:"),
            service("pass", head="@unaudited('')\ndef act(*, actor: str) -> None:"),
            service("log.record(actor=actor)"),
            {"inference/queue/services/cancel.py": "async def cancel(*, actor: str) -> None: ...\n"},
        ),
    ),
    "no file is too long": Rule(
        checks.long_files,
        {"console/access.py": "#\n" * 400},
        (
            {"console/access.py": "#\n" * 401},
            {"console/templates/console/a.html": "\n" * 401},
            {"tests/test_a.py": "\n" * 401},
        ),
    ),
    "files are named after what they hold": Rule(
        checks.forbidden_names,
        {"provisioning/canonical.py": ""},
        ({"provisioning/utils.py": ""}, {"console/pages/common.py": ""}),
    ),
    "no assert in the product": Rule(
        checks.product_asserts,
        {"inference/serve.py": "assertion = 1\n", "tests/test_a.py": "assert True\n"},
        ({"inference/serve.py": "assert True\n"},),
    ),
    "Django starts no process": Rule(
        checks.started_processes,
        {"inference/serve.py": "os.getpid()\n", "provisioning/launcher/exec.py": "os.execve('a', [], {})\n"},
        (
            {"inference/serve.py": "os.system('true')\n"},
            {"console/access.py": "os.execvpe('a', [], {})\n"},
            {"appliance/celery.py": "asyncio.create_subprocess_exec('true')\n"},
        ),
    ),
    "no page names another host": Rule(
        checks.other_hosts_in_pages,
        {"console/templates/console/a.html": '<svg xmlns="http://www.w3.org/2000/svg"></svg> {# 1 // 2 #}\n'},
        (
            {"console/templates/console/a.html": '<script src="https://cdn.example.com/a.js"></script>\n'},
            {"console/templates/console/a.html": '<img src="//cdn.example.com/a.png">\n'},
            {"console/static/console/console.css": "@import url(//fonts.example.com/a.css);\n"},
        ),
    ),
    "every command has a test": Rule(
        checks.untested_commands,
        {"inference/management/commands/drain.py": "", "tests/test_a.py": 'call_command("drain")\n'},
        (
            {"inference/management/commands/drain_all.py": ""},
            {"tests/test_a.py": "drains\n", "tests/architecture/test_b.py": "drain\n"},
        ),
    ),
    "every app with tables keeps the file names": Rule(
        checks.apps_without_contract,
        {"pyproject.toml": CONTRACT, "inference/queue/models.py": TABLE, "inference/api/models.py": ""},
        ({"inference/tags/models.py": TABLE},),
    ),
    "migrations are one line": Rule(
        checks.branching_migrations,
        {
            "inference/queue/migrations/0001_initial.py": MIGRATION.format('("clients", "0002_b")'),
            "inference/queue/migrations/0002_a.py": MIGRATION.format('("queue", "0001_initial")'),
        },
        (
            {"inference/queue/migrations/0003_b.py": MIGRATION.format('("queue", "0001_initial")')},
            {"inference/queue/migrations/0003_b.py": MIGRATION.format("")},
        ),
    ),
    "migrations have a way back": Rule(
        checks.migrations_without_a_way_back,
        {"inference/queue/migrations/0002_a.py": "migrations.RunSQL('a', 'b')\nmigrations.RunPython(a, b)\n"},
        (
            {"inference/queue/migrations/0002_a.py": "migrations.RunSQL('a')\n"},
            {"inference/queue/migrations/0002_a.py": "migrations.RunPython(a)\n"},
        ),
    ),
    "nothing claims what nobody can certify": Rule(
        checks.claims,
        {"README.md": "Controls that help a hospital meet HIPAA.\n"},
        (
            {"README.md": "A HIPAA-compliant model\n"},
            {"console/templates/console/a.html": "<p>hipaa  certified</p>\n"},
            {"docs/a.md": "HIPAA compliant\n"},
        ),
    ),
    "no provider and no cloud SDK outside connected": Rule(
        checks.providers,
        {
            "README.md": "import openai\n",
            "requirements.lock": "django==5.2\n",
            "provisioning/evaluation/engine-refused.in": 'anthropic ; python_version < "3"\n',
            "connected/bedrock.py": "import boto3  # bedrock-runtime.eu-central-1.amazonaws.com\n",
        },
        (
            {"inference/engines/bedrock.py": "import boto3\n"},
            {"requirements.lock": "botocore==1.0 \\\n"},
            {"provisioning/evaluation/engine.lock": "sentry-sdk==2.75.0 \\\n"},
            {"provisioning/evaluation/engine.in": 'anthropic ; python_version < "3.12"\n'},
            {"docs/a.md": "https://bedrock-runtime.us-east-1.amazonaws.com\n"},
            {"provisioning/evaluation/train.py": "URL = 'https://huggingface.co/a'\n"},
        ),
    ),
    "each exception has its reason": Rule(
        checks.unexplained_exceptions,
        {
            "inference/serve.py": "a = 1  # noqa: A001 - the wire calls it that\n"
            "b = 1  # type: ignore[misc]  # celery ships no types\n"
        },
        (
            {"inference/serve.py": "a = 1  # noqa: A001\n"},
            {"inference/serve.py": "a = 1  # noqa\n"},
            {"inference/serve.py": "b = 1  # type: ignore[misc]\n"},
            {"tests/test_a.py": "b = 1  # type: ignore\n"},
        ),
    ),
}


def plant(root: Path, *trees: Mapping[str, str]) -> None:
    for tree in trees:
        for name, text in tree.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_it_holds(rule: Rule) -> None:
    assert rule.check(ROOT) == []


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_it_allows_what_is_fine(rule: Rule, tmp_path: Path) -> None:
    plant(tmp_path, rule.fine)

    assert rule.check(tmp_path) == []


CASES = [(rule, number) for rule in RULES.values() for number in range(len(rule.broken))]


@pytest.mark.parametrize(
    ("rule", "number"),
    CASES,
    ids=[f"{name} {number}" for name, rule in RULES.items() for number in range(len(rule.broken))],
)
def test_it_can_fail(rule: Rule, number: int, tmp_path: Path) -> None:
    broken = rule.broken[number]
    plant(tmp_path, rule.fine, broken)

    (violation,) = rule.check(tmp_path)

    assert violation
