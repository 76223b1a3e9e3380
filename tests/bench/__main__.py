"""`python -m tests.bench NAME`: console, gateway, queue or report."""

from __future__ import annotations

import sys

from tests.bench import console, gateway, queue, report

COMMANDS = {"console": console.main, "gateway": gateway.main, "queue": queue.main, "report": report.main}

if __name__ == "__main__":
    sys.exit(COMMANDS[sys.argv[1]]())
