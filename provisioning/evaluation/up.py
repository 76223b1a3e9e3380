"""`make up`: run the steps, show what came of them, and serve until told to stop.

Decides: the directory, the ports, and how it ends: the exit status, and nothing left running.
Leaves to others: the steps (run), what is shown (report). With ONCE=1 it stops after the answer.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from provisioning import site_config
from provisioning.evaluation import environments, report, request, stack, supervisor
from provisioning.evaluation.child import NoIdentityError
from provisioning.evaluation.run import Run, RunError
from provisioning.evaluation.servers import ServersError
from provisioning.evaluation.site_file import Layout
from provisioning.evaluation.steps import Steps

REFUSALS = (
    NoIdentityError,
    RunError,
    ServersError,
    request.RequestError,
    site_config.SiteError,
    stack.CommandError,
)


class Stopped(Exception):
    """SIGINT or SIGTERM: not an error, somebody asked."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


def main() -> int:
    """Run the steps, show what came of them, and serve until told to stop."""
    layout = Layout(
        Path(sys.argv[1]).resolve(),
        media=Path(os.environ.get("MEDIA") or Layout.media),
        trust_root=Path(os.environ.get("TRUST_ROOT") or Layout.trust_root),
        console_port=int(os.environ.get("CONSOLE_PORT") or 8800),
        api_port=int(os.environ.get("API_PORT") or 8801),
        device=environments.device(),
        gpus=environments.gpus(),
    )
    once = os.environ.get("ONCE") == "1"
    run, error = Run(layout, Steps(before=len(report.taken_before()))), ""
    report.path(layout).unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        run.to_the_answer()
        report.write(run)
        report.show(run)
        if not once:
            print("\nServing until Ctrl-C.", flush=True)
            run.keeper.wait_until(lambda: False, float("inf"))
    except REFUSALS as failure:
        error = str(failure)
        print(f"\n{error}", file=sys.stderr, flush=True)
        report.write(run, error)
    except Stopped:
        error = "" if run.audit.get("ok") else "stopped before the answer"
        print("\nstopping ...", flush=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        run.keeper.stop_all()
        supervisor.clean_up(layout.base)
    return 0 if not error and report.summary(run)["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
