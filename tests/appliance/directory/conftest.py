"""One slapd for all tests of the directory; each test has a tree of its own in it, emptied afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from provisioning.site_config import Site
from tests.simulators import directory
from tests.simulators.directory import Slapd


@pytest.fixture(scope="session")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    if directory.find() is None:
        pytest.skip("slapd is not installed")
    running = Slapd(tmp_path_factory.mktemp("slapd")).start()
    running.fill()
    yield running
    running.stop()


@pytest.fixture
def secret(site: Site) -> Iterator[Path]:
    """The password of our own account there, as an operator leaves it."""
    path = site.secrets_dir / "directory-bind"
    path.touch(mode=0o600)
    path.write_text(directory.SERVICE_SECRET + "\n")
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def here(site: Site, settings: Settings, slapd: Slapd, secret: Path) -> Site:
    """This box, told of the directory."""
    own = replace(site, directory=slapd.site)
    settings.SITE = own
    return own
