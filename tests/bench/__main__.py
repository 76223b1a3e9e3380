"""`python -m tests.bench NAME`: gateway, queue or report."""

from __future__ import annotations

import sys

from tests.bench import gateway, queue, report

COMMANDS = {"gateway": gateway.main, "queue": queue.main, "report": report.main}

if __name__ == "__main__":
    sys.exit(COMMANDS[sys.argv[1]]())
