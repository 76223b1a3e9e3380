"""What no linter knows: each check reads the tree under a root and returns one sentence per violation.

The root is an argument so that each check can also be run over a small planted tree, to see that it can fail.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("appliance", "console", "inference", "provisioning")
# What the appliance is built from and shown with; tests name the forbidden things in order to forbid them.
TEXT = (".py", ".html", ".css", ".js", ".md", ".txt", ".toml", ".json", ".in", ".lock", ".service", ".nft", ".sh", "")
MOST_LINES = 400
VENDORED = re.compile(r"(^|/)(vendor|vendored)/|htmx[^/]*\.js$|\.min\.js$")


def python_files(root: Path, *folders: str) -> Iterator[Path]:
    """The Python files of these folders, and manage.py when none is named."""
    if not folders and (root / "manage.py").is_file():
        yield root / "manage.py"
    for folder in folders or PACKAGES:
        for path in sorted((root / folder).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield path


def product_texts(root: Path) -> Iterator[Path]:
    """Every text file of the air-gapped edition: its packages, documents and lists, without the connected edition."""
    for folder in (*PACKAGES, "docs", "offline-bundles"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts:
                yield path
    # pyproject.toml names the forbidden modules in a contract; tests/ names them to forbid them.
    yield from (
        path
        for path in sorted(root.glob("*"))
        if path.is_file() and path.suffix in TEXT and path.name not in {"pyproject.toml", "LICENSE"}
    )


def forbidden_names(root: Path) -> list[str]:
    """A utils.py is where nouns go to be forgotten."""
    bad = {"utils", "util", "helpers", "helper", "common", "misc"}
    return [f"{at(root, path)}: name it after what it holds" for path in python_files(root) if path.stem in bad]


def long_files(root: Path) -> list[str]:
    paths = [*python_files(root), *python_files(root, "tests"), *sorted((root / "console").rglob("*.html"))]
    counts = [(path, path.read_text().count("\n")) for path in paths]
    return [f"{at(root, path)}: {count} lines" for path, count in counts if count > MOST_LINES]


def product_asserts(root: Path) -> list[str]:
    """`python -O` removes an assert, and with it the check."""
    return [
        f"{at(root, path)}:{node.lineno}: assert in product code"
        for path in python_files(root)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Assert)
    ]


def started_processes(root: Path) -> list[str]:
    """The ways to start a process that need no import of subprocess (that is the import contract's)."""
    starts = re.compile(r"^(system|popen|fork|forkpty|posix_spawnp?|exec[lv]p?e?|spawn[lv]p?e?|create_subprocess_\w+)$")
    return [
        f"{at(root, path)}:{node.lineno}: {node.func.attr} starts a process"
        for path in python_files(root, "appliance", "console", "inference")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"os", "asyncio", "pty"}
        and starts.match(node.func.attr)
    ]


def other_hosts_in_pages(root: Path) -> list[str]:
    """No page, style or script of ours names another host; a namespace is a name, not a place."""
    host = re.compile(r"""(?:https?:|wss?:|["'(=\s])//[\w-]+\.[\w.-]+""")
    found = []
    for path in sorted((root / "console").rglob("*")):
        if path.suffix not in {".html", ".css", ".js", ".svg"} or VENDORED.search(path.as_posix()):
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if host.search(line.replace("http://www.w3.org/", "")):
                found.append(f"{at(root, path)}:{number}: names another host")
    return found


def untested_commands(root: Path) -> list[str]:
    tests = "\n".join(path.read_text() for path in python_files(root, "tests") if "architecture" not in path.parts)
    names = [
        path
        for path in python_files(root)
        if path.parts[-3:-1] == ("management", "commands") and not path.stem.startswith("_")
    ]
    return [f"{at(root, path)}: no test names it" for path in names if not re.search(rf"\b{path.stem}\b", tests)]


def apps_without_contract(root: Path) -> list[str]:
    """Every app with tables keeps the file names of contract `files`."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (files,) = [contract for contract in contracts if contract["id"] == "files"]
    apps = {
        ".".join(path.relative_to(root).parts[:-1])
        for path in python_files(root)
        # inference/api/models.py is the wire's /v1/models; tables come with Django's models.
        if path.name == "models.py" and "django.db" in path.read_text()
    }
    return [f"{app}: has tables and is not in contract `files`" for app in sorted(apps - set(files["containers"]))]


def branching_migrations(root: Path) -> list[str]:
    """One line of migrations per app: each but the first follows another of its app, and no two follow the same."""
    found = []
    for folder in sorted({path.parent for path in python_files(root) if path.parent.name == "migrations"}):
        app = folder.parent.name
        followed: dict[str, str] = {}
        for path in sorted(folder.glob("[0-9]*.py")):
            before = [name for label, name in migration_dependencies(parse(path)) if label == app]
            if len(before) != (0 if path.name.startswith("0001") else 1):
                found.append(f"{at(root, path)}: follows {len(before)} migrations of its app")
            for name in before:
                if name in followed:
                    found.append(f"{at(root, path)}: follows {name}, as {followed[name]} does")
                followed[name] = path.stem
    return found


def migration_dependencies(tree: ast.Module) -> list[tuple[str, str]]:
    """The literal (app, migration) pairs; swappable dependencies are other apps'."""
    pairs = []
    for node in ast.walk(tree):
        names = (
            [target.id for target in node.targets if isinstance(target, ast.Name)]
            if isinstance(node, ast.Assign)
            else []
        )
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        if "dependencies" not in names or not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        for item in getattr(node.value, "elts", []):
            if isinstance(item, ast.Tuple):
                label, name = (ast.literal_eval(part) for part in item.elts)
                pairs.append((label, name))
    return pairs


def migrations_without_a_way_back(root: Path) -> list[str]:
    found = []
    for path in python_files(root):
        if path.parent.name != "migrations":
            continue
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            back = {"RunSQL": "reverse_sql", "RunPython": "reverse_code"}.get(node.func.attr)
            if back and len(node.args) < 2 and back not in {keyword.arg for keyword in node.keywords}:
                found.append(f"{at(root, path)}:{node.lineno}: {node.func.attr} has no {back}")
    return found


def claims(root: Path) -> list[str]:
    """No such certification exists: the box supplies controls, the hospital complies."""
    claim = re.compile(r"HIPAA[\s-]+(compliant|certified|certification|approved)", re.IGNORECASE)
    return lines_with(root, claim, "claims what nobody can certify")


def providers(root: Path) -> list[str]:
    """The air-gapped edition holds no provider's host name and no cloud SDK."""
    hosts = re.compile(
        r"amazonaws\.com|googleapis\.com|azure\.com|windows\.net|openai\.com|anthropic\.com|mistral\.ai|cohere\.(ai|com)"
        r"|huggingface\.co\b|\bhf\.co\b|sentry\.io|datadoghq|segment\.io|posthog",
        re.IGNORECASE,
    )
    # A requirement under a condition that is never true takes the name out of a lock: engine-refused.in.
    kits = re.compile(
        r"^\s*((import|from)\s+)?(boto3|botocore|anthropic|google-cloud[\w-]*|azure[\w-]*|sentry[-_]sdk|fastapi-cloud-cli)\b"
        r"(?!\.)(?!.*python_version < .3.$)"
    )
    return lines_with(root, hosts, "names a provider's host") + lines_with(root, kits, "names a cloud SDK")


def unexplained_exceptions(root: Path) -> list[str]:
    """Each exception from a linter or the type checker is written where it happens, with its reason."""
    mark = re.compile(r"#\s*(noqa|type:\s*ignore|mypy:|ruff:)(?P<rest>.*)$")
    codes = r"[A-Z]+\d+(,\s*[A-Z]+\d+)*"
    reasoned = re.compile(rf"^:?\s*(\[[\w, -]+\]|{codes}|noqa:\s*{codes})\s*(-|#|:)\s*(?P<why>.{{3,}})$")
    found = []
    for path in [*python_files(root), *python_files(root, "tests")]:
        if "architecture" in path.parts:
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            match = mark.search(line)
            if match and not reasoned.match(match["rest"]):
                found.append(f"{at(root, path)}:{number}: {match[0]}: say why")
    return found


def lines_with(root: Path, pattern: re.Pattern[str], verdict: str) -> list[str]:
    return [
        f"{at(root, path)}:{number}: {verdict}"
        for path in product_texts(root)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def at(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
