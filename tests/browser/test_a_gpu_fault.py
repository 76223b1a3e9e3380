"""A GPU's fault in a real browser: from its injection into the driver to the page, to the held card, to requalified."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from provisioning.evaluation import stack
from provisioning.evaluation.site_file import REPOSITORY
from tests.box import Box
from tests.browser.conftest import SCREENSHOTS, Visit
from tests.simulators.nvml import library
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def driver(box: Box, tmp_path: Path) -> Iterator[library.SimulatedNvml]:
    """The box's sampler, started again over a simulated driver with one well card."""
    simulated = library.build(tmp_path)
    box.stop("sampler")
    environment = stack.environment(box.layout, role=box.site.postgres.app_role) | simulated.environment_alone()
    command = [sys.executable, "manage.py", "sample_gpus", "--kernel-log", "/dev/null"]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment) as sampler:
        until(lambda: box.sql("SELECT count(*) FROM telemetry_sample")[0][0], 30, "the card is read")
        yield simulated
        simulated.say()
        sampler.terminate()
    box.start("sampler")


def test_a_memory_error_holds_the_card_until_erin_has_looked_and_requalified_it(
    box: Box, visit: Visit, driver: library.SimulatedNvml
) -> None:
    erin = visit("erin")
    page = erin.open("/gpus")
    expect(page.get_by_role("heading", name="0: Simulated H200")).to_be_visible()
    driver.say("event 1 0 95")

    # The page follows by itself.
    expect(page.get_by_text("no new work goes to the engine on this card", exact=False)).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="A memory error that was not contained")).to_be_visible()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "gpu-quarantined-1280-light.png", full_page=True)

    page.get_by_role("button", name="Check and requalify card 0").click()
    expect(page.get_by_text("gpu_fault_stands", exact=False)).to_be_visible()
    erin.open("/alerts")
    expect(page.get_by_role("row").filter(has_text="XID 95")).to_be_visible()

    erin.open("/gpus")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("You have looked at this report.", exact=False)).to_be_visible()
    until(
        lambda: not box.sql("SELECT 1 FROM alerts_alert WHERE key LIKE 'gpu.xid.%%' AND closed_at IS NULL"),
        20,
        "the alert closes",
    )
    page.get_by_role("button", name="Check and requalify card 0").click()
    expect(page.get_by_text("The check found nothing.", exact=False)).to_be_visible()
    expect(page.get_by_text("no new work goes to the engine on this card", exact=False)).to_have_count(0)
