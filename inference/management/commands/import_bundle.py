"""Bring a bundle in from a medium, from the command line: the same services as the console, with progress."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from appliance.accounts import selectors as accounts
from appliance.accounts.permissions import Permission
from appliance.audit import services as audit
from appliance.audit.actions import Action
from inference.releases import selectors, tasks
from inference.releases import services as releases
from inference.releases.errors import ReleaseError

POLL_S = 0.3


class Command(BaseCommand):
    """`manage.py import_bundle --actor alice /media/usb0 clinical-notes-1`; without arguments lists what is there."""

    help = "Import a signed bundle from a medium; prints the release digest, or the reason it was refused."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("media", nargs="?", help="the medium's folder; leave out to list what is on the media")
        parser.add_argument("bundle", nargs="?", help="the bundle's name on the medium")
        parser.add_argument("--actor", help="the member of staff who imports")
        parser.add_argument("--here", action="store_true", help="do the work in this process instead of in a worker")

    def handle(self, *args: Any, media: str | None, bundle: str | None, actor: str | None, **options: Any) -> None:
        if media is None or bundle is None:
            self._list()
            return
        if actor is None or Permission.RELEASE_IMPORT not in accounts.permissions_of(actor):
            raise CommandError("--actor names nobody who may import")
        try:
            import_id = releases.start_import(actor=actor, media=media, bundle=bundle)
        except ReleaseError as error:
            audit.refuse(actor=actor, action=Action.IMPORT_REFUSED, target=bundle, outcome=error.code)
            raise CommandError(f"{error.code}: {error.message}") from error
        if options["here"]:
            releases.run_import(import_id)
        else:
            tasks.ring(import_id)
        self._follow(import_id)

    def _list(self) -> None:
        for found in selectors.media():
            self.stdout.write(f"{found.media}  {found.bundle}  version {found.version}  {found.bytes} bytes")

    def _follow(self, import_id: int) -> None:
        shown = -1
        while (now := selectors.import_(import_id)).live:
            if now.percent != shown:
                shown = now.percent
                self.stderr.write(f"import {import_id}: {now.state}, {shown} %")
            time.sleep(POLL_S)
        for check in now.checks:
            self.stderr.write(f"  {'ok ' if check.ok else 'NOT'} {check.name}: {check.detail}")
        if now.state != "done":
            raise CommandError(f"{now.state}: {now.code}: {now.message}")
        self.stdout.write(now.release_digest)
