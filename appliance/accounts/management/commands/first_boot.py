"""Make the secret that opens the console's set-up page, on a machine that has nobody yet."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from appliance.accounts import rules
from appliance.accounts.errors import FirstBootOverError
from appliance.accounts.services import first_boot


class Command(BaseCommand):
    """`manage.py first_boot`: prints the secret, once; any earlier one is void."""

    help = "Print a new set-up secret for the console's first-boot page; refused once there are people."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print it and say where it goes."""
        try:
            secret = first_boot.make_secret(actor=f"command:{getpass.getuser()}")
        except FirstBootOverError as error:
            raise CommandError(f"{error} They can add others.") from error
        minutes = int(rules.FIRST_BOOT_FOR.total_seconds() // 60)
        self.stdout.write(secret)
        self.stderr.write(
            f"Enter it at /first-boot in the console, with both people present, within {minutes} minutes."
        )
