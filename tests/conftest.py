"""Real servers for every test run, started when the first test needs them; and no silent skip in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from provisioning import site_config
from provisioning.evaluation import servers
from tests import private_site
from tests.box import Box

private_site.enter()
BOX_DIRECTORY = private_site.BASE / "box"
GPU_TESTS = Path(__file__).parent / "gpu"
BOX_KEY = pytest.StashKey[Box]()


@pytest.fixture(scope="session")
def site() -> site_config.Site:
    """The private site of this run."""
    return site_config.current()


@pytest.fixture(scope="session")
def postgres_server(site: site_config.Site) -> Iterator[servers.Postgres]:
    server = private_site.postgres(site)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(site: site_config.Site) -> Iterator[servers.Redis]:
    server = private_site.redis(site)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres_server: servers.Postgres) -> None:
    """pytest-django asks for this before it makes the test database: the server must run by then."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """After the migrations, grant the roles what they have in production."""
    from django.core.management import call_command, get_commands  # noqa: PLC0415 - needs settings

    if "grant_roles" in get_commands():
        with django_db_blocker.unblock():
            call_command("grant_roles")


@pytest.fixture(scope="session")
def box(pytestconfig: pytest.Config) -> Box:
    """The whole appliance, running. Shared: a test that stops a part starts it again."""
    running = pytestconfig.stash.get(BOX_KEY, None) or Box.launch(BOX_DIRECTORY)
    pytestconfig.stash[BOX_KEY] = running
    running.wait()
    return running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on the box go last, so that it has time to start."""
    items.sort(key=lambda item: "box" in getattr(item, "fixturenames", ()))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the box now when any test will need it: its engine takes most of a minute."""
    needed = any("box" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly:
        session.config.stash[BOX_KEY] = Box.launch(BOX_DIRECTORY)


def pytest_sessionfinish(session: pytest.Session) -> None:
    running = session.config.stash.get(BOX_KEY, None)
    if running is not None:
        running.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a test that skips for a missing part has not shown what it promises: it fails. Only tests/gpu may skip."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy sends its Result here
    allowed = GPU_TESTS in item.path.parents
    if os.environ.get("CI") == "true" and report.skipped and not allowed and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where nothing outside tests/gpu may skip: {reason}"
