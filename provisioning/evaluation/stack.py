"""The processes of an evaluation site: the same programs that systemd starts in production, on loopback.

Decides: which processes there are, in which order they start, and with which environment.
Leaves to others: keeping them running (supervisor) and what each does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from provisioning import site_config
from provisioning.evaluation import servers
from provisioning.evaluation.site_file import REPOSITORY, Layout
from provisioning.evaluation.supervisor import MARKER, Program, spawn

PYTHON = sys.executable

# How the LAN API is served. A head has at most so many bytes and lines; HTTP/2 is not spoken behind nginx. How slowly a
# head may come is nginx's: gunicorn waits for one as long as the connection lasts.
API_OPTIONS = (
    *("-k", "asgi", "--asgi-loop", "uvloop", "--asgi-lifespan", "on", "--http-parser", "python"),
    *("--http-protocols", "h1", "--http2-cleartext", "off"),
    *("--limit-request-line", "4094", "--limit-request-fields", "100", "--limit-request-field_size", "8190"),
    # Longer than clients keep idle connections: whoever hangs up second may lose a request (gunicorn's default is 2 s).
    *("--keep-alive", "75"),
)


def environment(layout: Layout, *, role: str | None = None) -> dict[str, str]:
    """What a process of this site finds in its environment; nothing of the caller's shell but where programs are."""
    values = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "appliance.settings",
        site_config.ENVIRONMENT_KEY: str(layout.site_file),
        MARKER: str(layout.base),
    }
    if role is not None:
        values["ISOWARD_DB_ROLE"] = role
    return values


def postgres(layout: Layout, site: site_config.Site) -> servers.Postgres:
    return servers.Postgres(layout.postgres, site.postgres, layout.logs / "postgres.log")


def redis(layout: Layout, site: site_config.Site) -> servers.Redis:
    return servers.Redis(layout.redis, site.redis_socket, layout.logs / "redis.log")


def data_servers(layout: Layout, site: site_config.Site) -> Iterator[Program]:
    """What must answer before anything of ours can start."""
    yield Program("postgres", postgres(layout, site).start, signal.SIGINT, last=True)
    yield Program("redis", redis(layout, site).start, last=True)


def keepers(layout: Layout) -> Iterator[Program]:
    """One per engine slot; each starts what its slot's approved order says, and nothing without one."""
    for slot in site_config.SLOTS:
        yield _program(layout, f"keeper-{slot}", ["-m", "provisioning.launcher.keeper", "--slot", slot])


def appliance(layout: Layout, site: site_config.Site) -> Iterator[Program]:
    """Our own long-running processes."""
    app, sealer = site.postgres.app_role, site.postgres.sealer_role
    manage = str(REPOSITORY / "manage.py")
    celery = ["-m", "celery", "-A", "appliance.celery"]
    console = ["-k", "gthread", "--threads", "4", "--workers", str(site.console.workers)]
    api = [*API_OPTIONS, "--workers", str(site.api.workers)]
    quiet = ["--without-mingle", "--without-gossip"]
    schedule = ["--schedule", str(layout.base / "run" / "beat"), "--pidfile", ""]
    yield _program(layout, "api", _gunicorn("appliance.asgi:application", site.api, api), role=app)
    yield _program(layout, "console", _gunicorn("appliance.wsgi:application", site.console, console), role=app)
    # Two: a long job or import must not hold up the sweeps that find what was left behind.
    yield _program(
        layout, "worker", [*celery, "worker", "-n", "jobs@%h", "-Q", "jobs,batches", "-c", "2", *quiet], role=app
    )
    # One: it holds as many lines in the engine as the engine takes; a second would only stand in its line.
    yield _program(
        layout, "feeder", [*celery, "worker", "-n", "slices@%h", "-Q", "slices", "-c", "1", *quiet], role=app
    )
    yield _program(
        layout,
        "chores",
        [*celery, "worker", "-n", "chores@%h", "-Q", "imports,maintenance", "-c", "2", *quiet],
        role=app,
    )
    yield _program(layout, "beat", [*celery, "beat", *schedule], role=app)
    yield _program(layout, "engines", [manage, "supervise_engines"], role=app)
    yield _program(layout, "sampler", [manage, "sample_gpus"], role=app)
    if site.metrics is not None:
        yield _program(layout, "metrics", [manage, "serve_metrics"], role=app)
    yield _program(layout, "sealer", [manage, "seal_audit"], role=sealer)


def _gunicorn(application: str, listener: site_config.Listener, options: Sequence[str]) -> list[str]:
    bind = ["--bind", f"{listener.host}:{listener.port}", "--graceful-timeout", "10", "--no-control-socket"]
    return ["-m", "gunicorn", application, *options, *bind]


def _program(layout: Layout, name: str, arguments: Sequence[str], *, role: str | None = None) -> Program:
    start = partial(
        spawn,
        [PYTHON, *arguments],
        log=layout.logs / f"{name}.log",
        environment=environment(layout, role=role),
        cwd=REPOSITORY,
        stop_signal=signal.SIGTERM,
    )
    return Program(name, start)


class CommandError(Exception):
    """A management command refused or failed; the message is its last words."""


def manage(
    layout: Layout, *arguments: str, role: str | None = None, stdin: str = "", extra: Mapping[str, str] | None = None
) -> str:
    """Run a management command of the product and return what it printed."""
    done = subprocess.run(
        [PYTHON, str(REPOSITORY / "manage.py"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**environment(layout, role=role), **(extra or {})},
        check=False,
    )
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-6:]
        raise CommandError(f"manage.py {arguments[0]} ended with {done.returncode}:\n" + "\n".join(words))
    return done.stdout
