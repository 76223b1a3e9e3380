"""One private site for each pytest process: its own site file, secrets, PostgreSQL and Redis under var/test-<pid>.

A subprocess of a test finds the same site through the environment and never makes or removes one.
"""

from __future__ import annotations

import atexit
import os
import shutil
from pathlib import Path

from provisioning import site_config, site_keys
from provisioning.evaluation import servers, site_file, supervisor

BASE_KEY = "ISOWARD_TEST_BASE"
BASE = Path(os.environ.get(BASE_KEY) or site_file.REPOSITORY / "var" / f"test-{os.getpid()}")
LAYOUT = site_file.Layout(BASE, media=BASE / "media", console_port=18800, api_port=18801)


def enter() -> site_config.Site:
    """Make the site unless a parent process has; from here on it is site_config.current()."""
    if os.environ.get(BASE_KEY) is None:
        _remove_orphans()
        site = site_file.write(LAYOUT)
        LAYOUT.media.mkdir(exist_ok=True)
        site_keys.create_missing(site)
        os.environ[BASE_KEY] = str(BASE)
        os.environ[site_config.ENVIRONMENT_KEY] = str(LAYOUT.site_file)
        os.environ["ISOWARD_DB_ROLE"] = site.postgres.owner_role  # makes and empties the test database
        atexit.register(_leave, os.getpid())
    return site_config.current()


def _leave(maker: int) -> None:
    if os.getpid() == maker:  # not in a forked child that ends by running our atexit
        shutil.rmtree(BASE, ignore_errors=True)


def _remove_orphans() -> None:
    """Directories of runs that were killed: their process is gone."""
    for directory in BASE.parent.glob("test-*"):
        number = directory.name.removeprefix("test-")
        if number.isdigit() and not Path("/proc", number).exists():
            supervisor.clean_up(directory / "box")
            shutil.rmtree(directory, ignore_errors=True)


def postgres(site: site_config.Site) -> servers.Postgres:
    # The owner may create databases here and only here: Django makes the test database itself.
    return servers.Postgres(LAYOUT.postgres, site.postgres, LAYOUT.logs / "postgres.log", create_databases=True)


def redis(site: site_config.Site) -> servers.Redis:
    return servers.Redis(LAYOUT.redis, site.redis_socket, LAYOUT.logs / "redis.log")
