"""Propose to go back to the release that served before. Prints the change's number; two others must approve it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from appliance.accounts import selectors as accounts
from appliance.accounts.permissions import Permission
from appliance.audit import services as audit
from appliance.changes.errors import ChangeError
from inference.releases import services as releases
from inference.releases.errors import ReleaseError


class Command(BaseCommand):
    """`manage.py roll_back --actor alice --reason "..."`."""

    help = "Open a change that goes back to an earlier release; prints the change's number."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--to", default="", help="the digest to go back to; the release that served last before, if left out"
        )
        parser.add_argument("--actor", required=True, help="the member of staff who proposes")
        parser.add_argument("--reason", required=True, help="why, for those who approve")

    def handle(self, *args: Any, to: str, actor: str, reason: str, **options: Any) -> None:
        if Permission.CHANGE_PROPOSE not in accounts.permissions_of(actor):
            raise CommandError("--actor names nobody who may propose")
        try:
            change_id = releases.propose_roll_back(actor=actor, digest=to, reason=reason)
        except (ReleaseError, ChangeError) as error:
            audit.refuse(actor=actor, target=to[:64], outcome=error.code)
            raise CommandError(f"{error.code}: {error}") from error
        self.stdout.write(str(change_id))
