"""A site with an installed release, a signed order and an engine that leaves a mark when it is started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from provisioning import site_config, site_keys
from provisioning.evaluation import site_file
from tests.simulators.bundle_maker import BundleMaker
from tests.simulators.fake_engine import FakeEngine
from tests.simulators.order_maker import OrderMaker, install

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass
class Slot:
    """Slot a of one site, its order, its engine and whatever was started for it."""

    site: site_config.Site
    site_file: Path
    order: OrderMaker
    engine: FakeEngine
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    status: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "ISOWARD_SITE": str(self.site_file)}

    def launch(self, *, slot: str = "a") -> list[dict[str, Any]]:
        """Run the launcher as the keeper does, until it refuses or the engine it became ends; its own words."""
        self.engine.behave("end")
        command = [sys.executable, "-m", "provisioning.launcher", "--order", str(self.order.path), "--slot", slot]
        ended = subprocess.run(
            command, env=self.environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False
        )
        self.status = ended.returncode
        return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]

    def refusal(self) -> str:
        """The code of the refusal of the order as it stands; and nothing was started."""
        self.order.write()
        (last,) = [word for word in self.launch() if word.get("state") in {"refused", "starting"}]
        assert not self.engine.mark.exists()
        assert self.status == 3
        return str(last["code"])

    def keep(self) -> subprocess.Popen[str]:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "provisioning.launcher.keeper", "--slot", "a"],
            env=self.environment,
            cwd=REPOSITORY,
            text=True,
        )
        self.started.append(keeper)
        return keeper

    @property
    def report(self) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads((self.site.slots_dir / "a" / "report.json").read_bytes())
        except FileNotFoundError:
            return {}
        return value

    @property
    def log(self) -> str:
        return (self.site.run_dir / "engine-a.log").read_text()


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Slot]:
    engine = FakeEngine(tmp_path / "engine")
    layout = site_file.Layout(base=tmp_path / "site")
    site_file.write(layout)
    text = layout.site_file.read_text().replace(str(site_file.ENGINE_PYTHON), str(engine.python))
    layout.site_file.write_text(text)
    site = site_config.read(layout.site_file)
    site_keys.create_missing(site)
    maker = BundleMaker(tmp_path / "bundle")
    made = Slot(site, layout.site_file, OrderMaker(site, install(maker.tree, site)), engine)
    made.order.write()
    yield made
    for process in made.started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
