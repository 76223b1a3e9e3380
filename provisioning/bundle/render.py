"""The child process that touches a chat template: it limits itself, reads one job from stdin, writes one answer, ends.

Runs as a plain script under `python -I`: nothing of ours is importable here, and nothing here is imported elsewhere.
Decides whether message content can steer the template, from its syntax tree; and what it renders to. The parent
(`template`) decides what that means, and kills this process when it takes too long.

Content may be put out, trimmed or as JSON. Content in a condition, a loop, a lookup, a comparison, a call or any other
filter means that a word in a patient's text can change the prompt's frame: that is held for a person to read.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

MEMORY = 256 * 1024 * 1024
CPU_SECONDS = 2
LONGEST_OUTPUT = 1024 * 1024

_SAFE_FILTERS = {"trim", "string", "tojson", "e", "escape", "safe", "length", "count"}
_SHAPE_TESTS = {"defined", "undefined", "none", "string", "mapping", "sequence", "iterable"}


def limit() -> None:
    """Before the first byte of the template is parsed: parsing is work too."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class TemplateRefusal(Exception):
    """The template asked to stop, by `raise_exception`."""


def environment() -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415 - under the memory limit, on purpose

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])

    def raise_exception(_message: str) -> None:
        raise TemplateRefusal

    env.globals["raise_exception"] = raise_exception
    env.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    return env


class Flow:
    """Follows `messages` through the tree: list, message, content. Unsure means content."""

    def __init__(self, nodes: Any) -> None:
        self.nodes = nodes
        self.names: dict[str, str] = {"messages": "list"}
        self.held = False

    def visit(self, node: Any) -> None:  # noqa: C901, PLR0912 - one branch per kind of node
        n = self.nodes
        if isinstance(node, n.For):
            kind = self.kind(node.iter)
            self._bind(node.target, {"list": "message", "message": "content", "content": "content"}.get(kind or ""))
            self.held |= kind in ("content", "message") or (node.test is not None and self._steers(node.test))
        elif isinstance(node, n.Assign):
            self._bind(node.target, self.kind(node.node))
        elif isinstance(node, n.AssignBlock):
            self._bind(node.target, "content" if any(self.kind(e) for e in node.find_all(n.Expr)) else None)
        elif isinstance(node, n.Macro):
            for argument in node.args:
                self._bind(argument, "content")
        elif isinstance(node, n.With):
            for target, value in zip(node.targets, node.values, strict=True):
                self._bind(target, self.kind(value))
        elif isinstance(node, n.If):
            self.held |= self._steers(node.test)
        for child in node.iter_child_nodes():
            self.visit(child)
        if isinstance(node, n.CondExpr):
            self.held |= self._steers(node.test)
        elif isinstance(node, n.And | n.Or | n.Not | n.Compare):
            self.held |= self._steers(node)
        elif isinstance(node, n.Filter) and node.node is not None:
            kind = self.kind(node.node)
            self.held |= kind in ("content", "message") and node.name not in _SAFE_FILTERS - {"length", "count"}
        elif isinstance(node, n.Call):
            inner = [node.node, *node.args, *(keyword.value for keyword in node.kwargs)]
            self.held |= any(self.kind(part) in ("content", "message") for part in inner)
        elif isinstance(node, n.Getitem):
            self.held |= self.kind(node.arg) in ("content", "message")

    def kind(self, node: Any) -> str | None:
        n = self.nodes
        if isinstance(node, n.Name):
            return self.names.get(node.name)
        if isinstance(node, n.Getattr | n.Getitem):
            return self._member(node)
        if isinstance(node, n.Filter) and node.node is not None:
            base = self.kind(node.node)
            if base == "list":
                return {"length": None, "count": None, "first": "message", "last": "message"}.get(node.name, "content")
            return base
        if isinstance(node, n.Test):
            return None if node.name in _SHAPE_TESTS else self.kind(node.node)
        kinds = {self.kind(child) for child in node.iter_child_nodes()}
        return "content" if kinds & {"content", "message"} else ("list" if "list" in kinds else None)

    def _member(self, node: Any) -> str | None:
        n = self.nodes
        base = self.kind(node.node)
        if isinstance(node.node, n.Name) and node.node.name == "loop":
            return "message" if getattr(node, "attr", "") in ("previtem", "nextitem") else None
        name = node.attr if isinstance(node, n.Getattr) else getattr(node.arg, "value", None)
        if base == "list":
            return "list" if isinstance(node, n.Getitem) and isinstance(node.arg, n.Slice) else "message"
        if base == "message":
            return None if name == "role" else "content"
        return base

    def _steers(self, test: Any) -> bool:
        return self.kind(test) in ("content", "message")

    def _bind(self, target: Any, kind: str | None) -> None:
        for name in [target] if isinstance(target, self.nodes.Name) else list(target.find_all(self.nodes.Name)):
            order = ["list", "message", "content"]
            old = self.names.get(name.name)
            if kind is not None and (old is None or order.index(kind) > order.index(old)):
                self.names[name.name] = kind
        if isinstance(target, self.nodes.NSRef) and kind is not None:
            self.names[target.name] = "content"


def content_steers(env: Any, source: str) -> bool:
    """Whether message content can change anything but its own place in the output."""
    from jinja2 import nodes  # noqa: PLC0415 - under the memory limit, on purpose

    tree = env.parse(source)
    if any(True for _ in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))):
        raise TemplateRefusal
    flow = Flow(nodes)
    before: dict[str, str] = {}
    # A name set late in a loop can be used early in its next turn: go round until nothing changes.
    while before != flow.names:
        before = dict(flow.names)
        flow.visit(tree)
    return flow.held


def work(job: dict[str, Any]) -> dict[str, Any]:
    from jinja2 import TemplateError  # noqa: PLC0415 - as above
    from jinja2.exceptions import SecurityError  # noqa: PLC0415 - as above

    env = environment()
    try:
        steers = content_steers(env, job["template"])
        template = env.from_string(job["template"])
        renders: list[str | None] = []
        for messages in job["conversations"]:
            try:
                text = template.render(messages=messages, add_generation_prompt=True, bos_token="", eos_token="")
            except TemplateRefusal:
                renders.append(None)
                continue
            if len(text) > LONGEST_OUTPUT:
                return {"fault": "cost"}
            renders.append(text)
    except (MemoryError, RecursionError, OverflowError):
        return {"fault": "cost"}
    except (
        SecurityError,
        TemplateError,
        TemplateRefusal,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        # The sandbox reports a range that is too long as an OverflowError; a recursion can arrive wrapped.
        return {"fault": "cost" if "recursion" in str(error) else "invalid"}
    return {"steers": steers, "renders": renders}


if __name__ == "__main__":
    limit()
    json.dump(work(json.load(sys.stdin)), sys.stdout)
