"""What of an engine's output may be kept: an allow-list, because a prompt can turn up in any line (SECURITY.md 5.5).

Decides line by line. A line passes when it has one of a few known shapes that cannot hold free text; of a log line the
level and the place in the source are kept. Everything else becomes its length and the start of its digest: enough to
see that something was said, and that it was said again.
"""

from __future__ import annotations

import hashlib
import re
import secrets

LONGEST_LINE = 16 * 1024
_KEY = secrets.token_bytes(16)

_KNOWN = tuple(
    re.compile(pattern)
    for pattern in (
        r"INFO: {5}(Started|Finished) server process \[\d+\]",
        r"INFO: {5}(Waiting for application (startup|shutdown)\.|Application (startup|shutdown) complete\.|Shutting down)",
        r"Traceback \(most recent call last\):",
        r"Loading safetensors checkpoint shards: +\d+% Completed \| \d+/\d+ [\[\]0-9:<>?,. it/s]{0,40}",
    )
)
_PROCESS = r"(?:\((?:APIServer|EngineCore|Worker)[A-Za-z0-9_]* pid=\d+\) ?)?"
_LOG_LINE = re.compile(
    rf"(?P<head>{_PROCESS}(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d "
    r"\[[A-Za-z0-9_/.]{1,80}\.py:\d{1,6}\])(?P<rest>.*)"
)
_FRAME = re.compile(
    rf'{_PROCESS}\s*File "[A-Za-z0-9_/.\-]*/(?P<file>(?:site-packages|lib/python3\.\d+)/[A-Za-z0-9_/.\-]{{1,160}}\.py)",'
    r" line (?P<line>\d{1,6}), in [A-Za-z0-9_<>]{1,80}"
)
_ERROR = re.compile(
    rf"{_PROCESS}(?P<name>[A-Za-z_][A-Za-z0-9_.]{{0,80}}(?:Error|Exception|Interrupt|Exit))(?P<rest>:.*)?"
)

_KEPT_ERROR = re.compile(r"(?P<name>[A-Za-z0-9_.]{1,90}) dropped:[0-9a-f]{12}:\d+")


def clean(line: bytes) -> str:
    """The line as it may be kept; never longer than it was plus a few characters."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    if not text.strip():
        return ""
    if text.isascii() and text.isprintable():
        if any(known.fullmatch(text) for known in _KNOWN):
            return text
        if found := _FRAME.fullmatch(text):
            return f"  {found['file']}:{found['line']}"
        if found := _LOG_LINE.fullmatch(text):
            return f"{found['head']} {_dropped(found['rest'].encode())}"
        if found := _ERROR.fullmatch(text):
            return f"{found['name']} {_dropped((found['rest'] or '').encode())}"
    return _dropped(line)


def error_name(kept: str) -> str:
    """The name of the exception a kept line tells of, without what it says; empty for any other line."""
    found = _KEPT_ERROR.fullmatch(kept)
    return found["name"] if found else ""


def _dropped(data: bytes) -> str:
    # Keyed per process: a plain digest of a short line could be found again by trying names.
    return f"dropped:{hashlib.sha256(_KEY + data).hexdigest()[:12]}:{len(data)}"
