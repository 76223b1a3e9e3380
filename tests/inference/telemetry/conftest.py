"""The simulated NVML library, compiled once for each test that asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulators.nvml import library


@pytest.fixture
def simulated(tmp_path: Path) -> library.SimulatedNvml:
    return library.build(tmp_path)
