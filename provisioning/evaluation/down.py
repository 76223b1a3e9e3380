"""`make down`: end a site that is running and whatever a killed run left behind. Data under var/ stays."""

from __future__ import annotations

import sys
from pathlib import Path

from provisioning.evaluation import supervisor


def main() -> int:
    """Say what was ended."""
    base = Path(sys.argv[1]).resolve()
    ended = supervisor.clean_up(base)
    print(f"ended: {', '.join(ended)}" if ended else "nothing was running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
