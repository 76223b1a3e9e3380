"""Create a person from JSON on standard input, so that no password stands in a process list."""

from __future__ import annotations

import base64
import getpass
import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from appliance.accounts import selectors, services
from appliance.accounts.errors import AccountError


class Command(BaseCommand):
    """`manage.py create_person < person.json`: username, display_name, password, roles, totp_seed (base32)."""

    help = "Create staff from a JSON object (or a list) on standard input; existing people are left alone."

    def handle(self, *args: Any, **options: Any) -> None:
        """Create whoever does not exist yet."""
        value = json.load(sys.stdin)
        for wanted in value if isinstance(value, list) else [value]:
            if selectors.person(wanted["username"]) is not None:
                self.stdout.write(f"{wanted['username']}: already here")
                continue
            actor = f"command:{getpass.getuser()}"
            try:
                services.create_person(
                    actor=actor,
                    username=wanted["username"],
                    display_name=wanted.get("display_name", ""),
                    password=wanted["password"],
                    roles=wanted["roles"],
                )
                seed = base64.b32decode(wanted["totp_seed"])
                services.enrol_totp(actor=actor, username=wanted["username"], seed=seed, confirmed=True)
            except AccountError as error:
                raise CommandError(str(error)) from error
            self.stdout.write(f"{wanted['username']}: created")
