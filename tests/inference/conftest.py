"""A box with folders of its own for each test, and the stage upon it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from provisioning.site_config import Site
from tests.inference.releases.stage import Stage


@pytest.fixture
def here(site: Site, settings: Settings, tmp_path: Path) -> Site:
    """The run's site, with state, media and trusted root of this test alone."""
    (tmp_path / "state").mkdir()
    (tmp_path / "media").mkdir()
    own = replace(
        site,
        state_dir=tmp_path / "state",
        media_roots=(tmp_path / "media",),
        trust_root=tmp_path / "root.json",
    )
    settings.SITE = own
    return own


@pytest.fixture
def stage(db: None, here: Site, tmp_path: Path) -> Stage:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Stage(here, scratch)
