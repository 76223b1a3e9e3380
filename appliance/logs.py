"""One JSON line per event: a fixed name and fields, never a sentence, never an object.

Exceptions are written as their type and the file and line they came from. Their text and their local values are left
out, because both can quote what a caller sent.
"""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _event(record: logging.LogRecord) -> str:
    # asyncio puts the exception's text into the template itself ("Task exception was never retrieved").
    if record.name.partition(".")[0] == "asyncio":
        return "event_loop"
    return record.msg if isinstance(record.msg, str) else type(record.msg).__name__


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON with only scalar extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; control characters are escaped by JSON, so no line can be forged."""
        line: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            # The template without its arguments for libraries' loggers: their arguments may quote input.
            "event": _event(record),
        }
        extra = vars(record).items()
        line |= {k: v for k, v in extra if k not in _STANDARD and isinstance(v, str | int | float | bool)}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["where"] = [f"{frame.filename}:{frame.lineno}" for frame in frames[-4:]]
        return json.dumps(line)
