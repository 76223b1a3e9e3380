"""The models and the migrations say the same; and a model without its migration is noticed."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import models

pytestmark = pytest.mark.django_db


def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=3)


def test_a_model_without_its_migration_is_noticed() -> None:
    class Planted(models.Model):  # a table nobody migrated
        class Meta:
            app_label = "telemetry"

    try:
        with pytest.raises(SystemExit):
            call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    finally:
        del apps.all_models["telemetry"]["planted"]
        apps.clear_cache()
