"""The stack under fire: the product's own processes as `make up` starts them, with a stand-in for the engine.

Decides: which processes take part, and that a killed one is started again at once. It is a program of its own, in one
thread, so that the campaign beside it can have many; and it runs from whatever tree it is started in, so that a
mutated copy of the tree is killed in the same way.
"""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType

from provisioning import site_config, site_keys
from provisioning.evaluation import site_file, stack, supervisor

# No part in a request or a job, and the engines' supervisor would look for a real one.
LEFT_OUT = frozenset({"console", "engines", "sampler"})
ENGINE = "engine"
LONGEST_S = 3 * 3600.0

# A release that serves and a client with a key, as rows: how they come to be is tests/flows/test_media_to_answer.py.
_PREPARE = """
from tests.simulators import lan
lan.serve_a_release()
print(lan.new_key("crash-campaign"))
"""


class Stopped(Exception):
    """Somebody asked."""


class Restless(supervisor.Supervisor):
    """A supervisor that never tires: under a kill a second, its growing back-off would become the campaign's pace."""

    def turn(self) -> None:
        for child in self.children.values():
            child.failures = 0
        super().turn()


def key_file(base: Path) -> Path:
    return base / "api-key"


def engine_log(base: Path) -> Path:
    return base / "engine.jsonl"


def main() -> int:
    """`stack BASE PORT`: start everything, say so with the key's file, and keep it running until told to stop."""
    signal.signal(signal.SIGTERM, _stop)
    layout = site_file.Layout(Path(sys.argv[1]).resolve(), api_port=int(sys.argv[2]))
    supervisor.clean_up(layout.base)
    site = site_file.write(layout)
    site_keys.create_missing(site)
    keeper = Restless(layout.base)
    supervisor.TURN_S = 0.05
    try:
        _start(keeper, layout, site)
        keeper.wait_until(lambda: False, LONGEST_S)
    except Stopped:
        return 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        keeper.stop_all()
        supervisor.clean_up(layout.base)
    return 1


def _start(keeper: supervisor.Supervisor, layout: site_file.Layout, site: site_config.Site) -> None:
    owner, app = site.postgres.owner_role, site.postgres.app_role
    for program in stack.data_servers(layout, site):
        keeper.start(program)
    stack.manage(layout, "migrate", "--no-input", "--verbosity", "0", role=owner)
    stack.manage(layout, "grant_roles", role=owner)
    key = stack.manage(layout, "shell", "-v", "0", "-c", _PREPARE, role=app).split()[-1]
    keeper.start(_engine(layout, site))
    for program in stack.appliance(layout, site):
        if program.name not in LEFT_OUT:
            keeper.start(program)
    fresh = key_file(layout.base).with_suffix(".new")
    fresh.write_text(key, encoding="ascii")
    fresh.replace(key_file(layout.base))


def _engine(layout: site_file.Layout, site: site_config.Site) -> supervisor.Program:
    socket = site.engine_socket("a")
    socket.parent.mkdir(parents=True, exist_ok=True)
    start = partial(
        supervisor.spawn,
        [sys.executable, "-m", "tests.crash.engine", str(socket), str(engine_log(layout.base))],
        log=layout.logs / "engine.log",
        environment={**stack.environment(layout), "PYTHONPATH": str(site_file.REPOSITORY)},
        cwd=site_file.REPOSITORY,
        stop_signal=signal.SIGTERM,
    )
    return supervisor.Program(ENGINE, start)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
