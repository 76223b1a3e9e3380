"""Propose that a release serve. Prints the change's number; two others must approve it."""

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
    """`manage.py propose_activation <digest> --actor alice --reason "..."`."""

    help = "Open a change that makes a release serve; prints the change's number."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("digest", help="the release's digest, or at least its first 12 digits")
        parser.add_argument("--actor", required=True, help="the member of staff who proposes")
        parser.add_argument("--reason", required=True, help="why, for those who approve")

    def handle(self, *args: Any, digest: str, actor: str, reason: str, **options: Any) -> None:
        if Permission.CHANGE_PROPOSE not in accounts.permissions_of(actor):
            raise CommandError("--actor names nobody who may propose")
        try:
            change_id = releases.propose_activation(actor=actor, digest=digest, reason=reason)
        except (ReleaseError, ChangeError) as error:
            audit.refuse(actor=actor, target=digest[:64], outcome=error.code)
            raise CommandError(f"{error.code}: {error}") from error
        self.stdout.write(str(change_id))
