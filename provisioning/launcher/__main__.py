"""`python -m provisioning.launcher --order FILE --slot a`: verify the order, then be vLLM. Started by the keeper.

Says how far it is on the status descriptor, one JSON object a line; that descriptor closes by itself at `exec`.
Exit status 3 means refused: nothing was started.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from provisioning import site_config
from provisioning.launcher import cell, order, start
from provisioning.launcher.errors import LaunchRefusedError
from provisioning.launcher.verify import verify

REFUSED = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m provisioning.launcher")
    parser.add_argument("--order", type=Path, required=True)
    parser.add_argument("--slot", required=True)
    parser.add_argument("--keeper", type=int, default=os.getppid())
    parser.add_argument("--status-fd", type=int, default=1)
    options = parser.parse_args()
    os.set_inheritable(options.status_fd, False)
    status = os.fdopen(options.status_fd, "w", encoding="ascii", buffering=1, closefd=False)

    def tell(**fields: Any) -> None:
        status.write(json.dumps(fields) + "\n")

    def inside(enclosed: bool) -> None:  # noqa: FBT001 - the cell says it so
        try:
            _launch(options.order, options.slot, tell, enclosed=enclosed)
        except LaunchRefusedError as error:
            tell(state="refused", code=error.code, message=error.message)
        except site_config.SiteError as error:
            tell(state="refused", code="site_unusable", message=str(error))
        except OSError as error:
            tell(state="refused", code="launch_failed", message=f"the engine cannot be started: {error.strerror}")
        os._exit(REFUSED)

    return cell.guard(options.keeper, inside, lambda pid: tell(pid=pid))


def _launch(path: Path, slot: str, tell: Any, *, enclosed: bool) -> None:
    site = site_config.current()
    with path.open("rb") as file:
        parsed = order.parse(file.read(order.SIZE + 1))
    tell(state="verifying", deployment=parsed.deployment, network=cell.network())
    roster_key, api_key = site.secret("roster-key"), site.secret("engine-api-key")
    approved = verify(
        parsed, slot=slot, site=site, roster_key=roster_key, progress=lambda done: tell(verified_bytes=done)
    )
    private = start.prepare(site, slot)
    variables = start.environment(approved, private, api_key.decode("ascii"))
    tell(state="starting", approvers=list(approved.approvers), release=approved.release.name)
    if enclosed:
        cell.seal(approved.release, start.hidden(site))
    start.become_engine(start.command(approved, site, slot), variables, private)


if __name__ == "__main__":
    sys.exit(main())
