"""Every public function of a services module is an act: it takes the actor and leaves a record, or says why not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.checks import at, parse, python_files

Function = ast.FunctionDef | ast.AsyncFunctionDef
RECORDS = {"record", "refuse", "write", "write_all"}


def unaudited_services(root: Path) -> list[str]:
    found = []
    for path in python_files(root):
        is_services = path.name == "services.py" or path.parent.name == "services"
        # appliance.audit.services is the record itself.
        if is_services and path.parts[-3:-1] != ("appliance", "audit"):
            found += [f"{at(root, path)}:{line}" for line in violations(parse(path))]
    return found


def violations(tree: ast.Module) -> Iterator[str]:
    functions = {node.name: node for node in tree.body if isinstance(node, Function)}
    recording = recorders(functions)
    for name, function in functions.items():
        if name.startswith("_"):
            continue
        reason = exemption(function)
        if reason is not None:
            if not reason.strip():
                yield f"{function.lineno}: {name} is @unaudited without a reason"
            continue
        if not function.args.kwonlyargs or function.args.kwonlyargs[0].arg != "actor" or function.args.args:
            yield f"{function.lineno}: {name} takes facts by keyword, the actor first"
        if name not in recording:
            yield f"{function.lineno}: {name} leaves no audit record and is not @unaudited"


def recorders(functions: dict[str, Function]) -> set[str]:
    """The functions that call audit.record, themselves or through another function of the same file."""
    recording: set[str] = set()
    while True:
        more = {
            name
            for name, function in functions.items()
            if any(is_record(call) or callee(call) in recording for call in calls(function))
        }
        if more == recording:
            return recording
        recording = more


def calls(function: Function) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def is_record(call: ast.Call) -> bool:
    function = call.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr in RECORDS
        and isinstance(function.value, ast.Name)
        and function.value.id == "audit"
    )


def callee(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def exemption(function: Function) -> str | None:
    """The reason given to @unaudited; None when the function does not carry it."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Name) and decorator.id == "unaudited":
            return ""
        if not isinstance(decorator, ast.Call):
            continue
        name = decorator.func.attr if isinstance(decorator.func, ast.Attribute) else getattr(decorator.func, "id", "")
        if name == "unaudited":
            first = decorator.args[0] if decorator.args else None
            return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
    return None
