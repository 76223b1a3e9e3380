"""The chat template, tried out where it can do no harm before anyone may approve it.

Decides: what a template costs, whether it keeps every message in its place, and whether content can steer it.
The trying happens in `render`, a child process with its own limits on memory, processor time and files.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provisioning.bundle.errors import BundleError

SIZE = 64 * 1024
SECONDS = 3.0
_LONGEST_ANSWER = 4 * 1024 * 1024

Conversation = Sequence[Mapping[str, str]]

_SYSTEM = {"role": "system", "content": "isoward-canary-system"}
_FIRST = {"role": "user", "content": "isoward-canary-first"}
_REPLY = {"role": "assistant", "content": "isoward-canary-reply"}
_SECOND = {"role": "user", "content": "isoward-canary-second"}
_SHORT: Conversation = (_SYSTEM, _FIRST)
_LONG: Conversation = (_SYSTEM, _FIRST, _REPLY, _SECOND)


def check(source: bytes, golden: Sequence[Mapping[str, Any]]) -> bool:
    """True when content can steer the template, so a person must read it; raises when it must not be used at all.

    `golden` holds the publisher's own renderings, `{"messages": [...], "render": "..."}`; each must come out the same.
    """
    if len(source) > SIZE:
        raise BundleError("template_cost", f"the chat template is longer than {SIZE} bytes")
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError:
        raise BundleError("template_invalid", "the chat template is not UTF-8") from None
    conversations = [_SHORT, _LONG, *(case["messages"] for case in golden)]
    answer = _run(text, conversations)
    fault = answer.get("fault")
    if fault == "cost":
        raise BundleError("template_cost", "the chat template takes more time or memory than a template may")
    renders = answer.get("renders")
    if fault is not None or not isinstance(renders, list) or len(renders) != len(conversations):
        raise BundleError("template_invalid", "the chat template cannot be rendered")
    for conversation, render in zip((_SHORT, _LONG), renders, strict=False):
        # A template may refuse a conversation it does not know; it may not shorten or reorder one.
        if render is None and conversation is _LONG:
            continue
        _check_order(conversation, render)
    for case, render in zip(golden, renders[2:], strict=True):
        if case["render"] != render:
            raise BundleError("template_golden", "the chat template does not render what the publisher recorded")
    return bool(answer.get("steers", True))


def _check_order(conversation: Conversation, render: str | None) -> None:
    position = -1
    for message in conversation:
        found = (render or "").find(message["content"])
        if found <= position or (render or "").count(message["content"]) != 1:
            raise BundleError("template_golden", "the chat template drops, repeats or reorders messages")
        position = found


def _run(text: str, conversations: Sequence[Conversation]) -> dict[str, Any]:
    """One child for one template; killed when it is slow, read no further than an honest answer is long."""
    job = json.dumps({"template": text, "conversations": [list(c) for c in conversations]}).encode("utf-8")
    command = [sys.executable, "-I", "-B", str(Path(__file__).with_name("render.py"))]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
    ) as child:
        timer = threading.Timer(SECONDS, child.kill)
        timer.start()
        try:
            data = _talk(child, job)
        finally:
            timer.cancel()
            child.kill()
    if not data or len(data) > _LONGEST_ANSWER:
        return {"fault": "cost"}
    try:
        answer = json.loads(data)
    except ValueError:
        return {"fault": "cost"}
    return answer if isinstance(answer, dict) else {"fault": "invalid"}


def _talk(child: subprocess.Popen[bytes], job: bytes) -> bytes:
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the child was started without pipes")
    try:
        child.stdin.write(job)
        child.stdin.close()
    except BrokenPipeError:
        return b""
    return child.stdout.read(_LONGEST_ANSWER + 1)
