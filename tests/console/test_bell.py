"""The console rings the box's own broker when an import is pressed."""

from __future__ import annotations

import subprocess
import sys

from django.conf import settings

ASK = "import appliance.wsgi; from inference.releases.tasks import run_import; print(run_import.app.conf.broker_url)"


def test_the_consoles_process_rings_at_this_boxs_broker() -> None:
    """In a process of its own, as gunicorn loads it: a test process has already loaded what it forgot."""
    told = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == settings.CELERY_BROKER_URL
